"""Laws of the networks for sequences: shapes, leading axes, gradients, and a signal that comes through."""

from __future__ import annotations

import pytest
import torch

from latens import networks
from latens.networks import SequenceDecoder, SequenceEncoder

pytestmark = pytest.mark.usefixtures("one_thread")

LENGTHS = (1, 2, 5, 17, 100, 1000)
CHANNELS = (1, 3, 50)
both = pytest.mark.parametrize(("length", "channels"), [(t, c) for t in LENGTHS for c in CHANNELS])


def finite_gradients(network: torch.nn.Module) -> bool:
    return all(p.grad is not None and bool(p.grad.isfinite().all()) for p in network.parameters())


@both
def test_networks_keep_leading_axes_and_have_finite_gradients(length: int, channels: int):
    torch.manual_seed(0)
    encoder = SequenceEncoder((length, channels), 4)
    for lead in ((), (3,), (2, 3)):
        assert encoder(torch.randn(*lead, length, channels)).shape == (*lead, 4)
    encoder(torch.randn(3, length, channels)).square().sum().backward()
    assert finite_gradients(encoder)
    for event in ((length, channels), (2, length, channels)):
        decoder = SequenceDecoder(4, event)
        for lead in ((), (3,), (2, 3)):
            assert decoder(torch.randn(*lead, 4)).shape == (*lead, *event)
        decoder(torch.randn(3, 4)).square().sum().backward()
        assert finite_gradients(decoder)


@pytest.mark.parametrize("length", LENGTHS)
def test_every_row_is_computed_by_itself(length: int):
    torch.manual_seed(0)
    encoder, decoder = SequenceEncoder((length, 3), 4).double(), SequenceDecoder(4, (2, length, 3)).double()
    x = torch.randn(2, 3, length, 3, dtype=torch.float64)
    codes = encoder(x)
    out = decoder(codes)
    for k in range(2):
        for b in range(3):
            assert torch.allclose(encoder(x[k, b]), codes[k, b], rtol=1e-10, atol=1e-12)
            assert torch.allclose(decoder(codes[k, b]), out[k, b], rtol=1e-10, atol=1e-12)


@both
def test_every_cell_is_seen_and_every_output_is_reached(length: int, channels: int):
    """Every cell of the sequence influences the code, and the code influences every cell of the output."""
    torch.manual_seed(0)
    x = torch.randn(1, length, channels, requires_grad=True)
    (seen,) = torch.autograd.grad(SequenceEncoder((length, channels), 4)(x).sum(), x)
    assert (seen != 0).all()
    decoder = SequenceDecoder(4, (length, channels))
    first, second = decoder(torch.randn(2, 4))
    assert (first != second).all()


@pytest.mark.parametrize("length", [17, 100, 1000])
def test_a_signal_comes_through_the_convolutions(length: int):
    """Before training, the spread between inputs of unit variance stays of order one through all the halvings."""
    torch.manual_seed(0)
    encoder, decoder = SequenceEncoder((length, 3), 16), SequenceDecoder(16, (length, 3))
    with torch.no_grad():
        h = torch.randn(64, 3, length)
        for convolution in encoder.convolutions:
            h = convolution(h)
            assert 0.5 < h.std(0).mean() < 3
        h = torch.randn(64, 128 if length > 40 else 32, decoder.grid)
        for convolution in decoder.convolutions[:-1]:
            h = convolution(h)
            assert 0.5 < h[..., 1:-1].std(0).mean() < 3


def test_a_shift_in_time_far_from_the_ends_shifts_the_features():
    """The total stride of the convolutions is 2**count, so a shift by as many steps moves their output by one."""
    torch.manual_seed(0)
    encoder = SequenceEncoder((1000, 2), 4).double()
    x = torch.zeros(1, 2, 1024, dtype=torch.float64)
    x[..., 400:600] = torch.randn(1, 2, 200, dtype=torch.float64)

    def features(x: torch.Tensor) -> torch.Tensor:
        for convolution in encoder.convolutions[:4]:
            x = convolution(x)
        return x

    plain, moved = features(x), features(x.roll(16, -1))
    assert torch.allclose(plain.roll(1, -1)[..., 10:-10], moved[..., 10:-10], rtol=1e-10, atol=1e-12)
    assert plain[..., 20:40].std() > 1e-3


def test_the_shape_decides_the_network_and_a_start_shifts_its_output():
    assert isinstance(networks.encoder("conv", (17, 3), 4), SequenceEncoder)
    assert isinstance(networks.encoder("conv", (3, 17, 17), 4), networks.ConvEncoder)
    assert isinstance(networks.decoder("conv", 4, (17, 3)), SequenceDecoder)
    assert isinstance(networks.decoder("conv", 4, (3, 17, 17)), networks.ConvDecoder)
    decoder = networks.decoder("sequence", 4, (2, 17, 3))
    assert isinstance(decoder, SequenceDecoder)
    start = torch.randn(2, 17, 3)
    before = decoder(torch.zeros(4))
    networks.start_at(decoder, start)
    assert torch.allclose(decoder(torch.zeros(4)), before + start, atol=1e-6)
    assert not networks.only_linear_maps(decoder)


def test_sequence_networks_can_be_captured_as_one_graph():
    import torch._dynamo

    torch.manual_seed(0)
    encoder, decoder = SequenceEncoder((17, 3), 4), SequenceDecoder(4, (17, 3))
    x = torch.randn(5, 17, 3)
    captured = torch.compile(lambda x: decoder(encoder(x)), backend="eager", fullgraph=True)
    assert torch.allclose(captured(x), decoder(encoder(x)), atol=1e-6)


def test_a_recurrent_model_learns_to_tell_sequences_apart():
    """Sines of different frequency and phase through a code of four numbers: most of the variance is explained."""
    torch.manual_seed(0)
    t = torch.linspace(0, 1, 50)
    rate, phase = 1 + torch.rand(128, 1), 3 * torch.rand(128, 1)
    x = torch.stack([torch.sin(6.28 * rate * t + phase), torch.cos(6.28 * rate * t + phase)], -1)
    encoder, decoder = SequenceEncoder((50, 2), 4), SequenceDecoder(4, (50, 2))
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 2e-3)
    for _ in range(60):
        loss = (decoder(encoder(x)) - x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.1 * float(x.var())
