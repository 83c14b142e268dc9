"""The look of the page: one palette for page and figures, light and dark, and the style sheet."""

from __future__ import annotations

# {name: (light, dark)}. Charts are drawn in the light colours; in the page, these become var(--name).
THEME = {
    "page": ("#f5f6f8", "#12151a"),
    "card": ("#ffffff", "#1b2027"),
    "ink": ("#1d2530", "#e7eaee"),
    "muted": ("#5d6776", "#a2acb9"),
    "line": ("#e1e5ea", "#343c47"),
    "faint": ("#b9c0ca", "#566170"),
    "warn": ("#9a5b00", "#f2b24c"),
    "warnback": ("#fff6e3", "#2f2615"),
    # Okabe & Ito (2008), distinguishable with any colour vision; darkened if too pale on white
    "c0": ("#0072b2", "#4aa8e0"),
    "c1": ("#d55e00", "#f28a45"),
    "c2": ("#009e73", "#2cc79a"),
    "c3": ("#cc79a7", "#e79fc4"),
    "c4": ("#e69f00", "#f5bd48"),
    "c5": ("#56b4e9", "#97d5f7"),
    "c6": ("#4b3fa0", "#9d92f5"),
    "c7": ("#8c8300", "#d8cf4a"),
    "c8": ("#8a2350", "#d9638f"),
    "c9": ("#707985", "#b4bdc9"),
}
COLORS = 10
MODELS = {"pca": "c9", "ae": "c1", "vae": "c0"}


def color(name: str) -> str:
    """The light colour with that name, for drawing; a hexadecimal value is unchanged."""
    return name if name.startswith("#") else THEME[name][0]


def ramp(i: int, count: int) -> str:
    """Step ``i`` of ``count`` of viridis, hexadecimal.

    >>> ramp(0, 5)
    '#472a79'
    """
    import matplotlib

    red, green, blue, _ = matplotlib.colormaps["viridis"](0.12 + 0.8 * i / max(1, count - 1), bytes=True)
    return f"#{red:02x}{green:02x}{blue:02x}"


def _variables(side: int) -> str:
    return "".join(f"--{name}:{pair[side]};" for name, pair in THEME.items())


CSS = (
    ":root{color-scheme:light dark;" + _variables(0) + "}"
    "@media (prefers-color-scheme:dark){:root{" + _variables(1) + "}}"
    """
@media print{:root{color-scheme:light;"""
    + _variables(0)
    + """}}
*{box-sizing:border-box}
html{scroll-behavior:smooth;-webkit-text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,"Liberation Sans",sans-serif}
.page{max-width:1320px;margin:0 auto;padding:32px 24px 64px;display:grid;grid-template-columns:190px minmax(0,1fr);
gap:40px}
header,.all{grid-column:1/-1}
.kicker{margin:0;color:var(--c0);font-weight:600;letter-spacing:.06em;font-size:.8rem;text-transform:uppercase}
h1{font-size:2.1rem;line-height:1.2;margin:.15em 0 .2em;font-weight:700;overflow-wrap:anywhere}
.facts{color:var(--muted);margin:0 0 1.4rem;max-width:none;overflow-wrap:anywhere}
.lead{font-size:1.05rem;max-width:86ch;margin:.2rem 0 .5rem}
h2{font-size:1.35rem;line-height:1.25;margin:0 0 .35rem;scroll-margin-top:16px}
h3{font-size:1.02rem;margin:1.6rem 0 .5rem}
p{margin:.3rem 0 .9rem;max-width:74ch}
a{color:var(--c0)}
.how{color:var(--muted);font-size:.94rem}
code{font:.9em ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace;overflow-wrap:anywhere}
nav{position:sticky;top:24px;align-self:start;font-size:.92rem;max-height:calc(100vh - 48px);overflow:auto}
nav ul{list-style:none;margin:0;padding:0;border-left:2px solid var(--line)}
nav a{display:block;padding:.27rem 0 .27rem .9rem;color:var(--muted);text-decoration:none}
nav a:hover,nav a:focus{color:var(--c0)}
main{min-width:0}
main>section{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:24px 26px;margin:0 0 24px}
.cards{display:flex;flex-wrap:wrap;gap:14px}
.figure-card{flex:1 1 168px;max-width:340px;background:var(--card);
border:1px solid var(--line);border-radius:12px;padding:14px}
.figure-card b{display:block;font-size:1.45rem;line-height:1.25;font-weight:650;
font-variant-numeric:tabular-nums}
.figure-card b small{white-space:nowrap;font-size:.58em;font-weight:500;color:var(--muted)}
.figure-card span{display:block;color:var(--muted);font-size:.85rem}
.figure-card span:first-child{font-weight:600;color:var(--ink)}
.warning{background:var(--warnback);border:1px solid var(--warn);border-left-width:6px;border-radius:10px;
padding:12px 18px;margin:0 0 14px}
.warning b{color:var(--warn);display:block;font-size:.95rem}
.warning p{margin:.1rem 0;max-width:none}
.note{color:var(--muted);font-size:.94rem;border-left:3px solid var(--line);padding-left:.8rem}
.grid{display:grid;gap:22px 26px;grid-template-columns:repeat(auto-fill,minmax(min(100%,290px),1fr));
margin:.6rem 0 1rem}
.grid.small{grid-template-columns:repeat(auto-fill,minmax(min(100%,225px),1fr));gap:18px 22px}
.grid.two{grid-template-columns:repeat(auto-fill,minmax(min(100%,380px),1fr))}
.grid.three{grid-template-columns:repeat(auto-fit,minmax(min(100%,270px),1fr))}
figure{margin:0;min-width:0}
figcaption{font-weight:600;font-size:.9rem;line-height:1.4;margin:0 0 .35rem;white-space:nowrap;overflow:hidden;
text-overflow:ellipsis}
figcaption small{display:block;font-weight:400;color:var(--muted);font-size:.92em;white-space:normal}
svg{display:block;width:100%;height:auto;overflow:visible;stroke-linejoin:round}
svg text{font-family:inherit}
svg .halo text,svg [id*=halo] text{paint-order:stroke;stroke:var(--card);stroke-width:3.5px;font-weight:700}
.split{display:grid;grid-template-columns:minmax(0,600px) minmax(0,1fr);gap:28px;align-items:start}
.split .keys{flex-direction:column}
.keys{display:flex;flex-wrap:wrap;gap:.15rem 1rem;margin:.3rem 0 .2rem;padding:0;list-style:none;font-size:.84rem;
color:var(--muted)}
.keys li{display:flex;align-items:center;gap:.4rem;min-width:0;overflow-wrap:anywhere}
.keys i{flex:none;width:.75em;height:.75em;border-radius:50%;background:currentColor}
.keys span{color:var(--muted)}
.flow{display:flex;flex-wrap:wrap;gap:10px;margin:.6rem 0 1rem}
.flow img,.strip img{display:block;border-radius:3px;max-width:100%}
.flow.pairs{row-gap:20px}
.flow img{height:auto}
.px img{image-rendering:pixelated}
.strip{margin:0 0 .5rem;display:grid;grid-template-columns:108px minmax(0,1fr);gap:12px;align-items:center}
.strip.bare{display:block}
.strip span{font-size:.84rem;line-height:1.3;color:var(--muted)}
.strip span b{color:var(--ink);display:block}
.scale{display:flex;max-width:100%;justify-content:space-between;color:var(--muted);font-size:.8rem}
.tablebox{overflow-x:auto;margin:.8rem 0;background:linear-gradient(to left,var(--card) 40%,transparent) right/48px 100%
no-repeat local,linear-gradient(to left,var(--faint),transparent) right/14px 100% no-repeat scroll}
.compact{font-size:.82rem}.compact :is(th,td){padding-left:.28rem;padding-right:.34rem}
table{border-collapse:collapse;font-size:.92rem;font-variant-numeric:tabular-nums}
th,td{padding:.42rem .58rem;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line)}
th{font-weight:600;color:var(--muted);vertical-align:bottom}
th:first-child,td:first-child,.plain td,.plain th{text-align:left}
.tablebox:not(.narrow) :is(th,td):first-child{position:sticky;left:0;background:var(--card)}
.plain td{white-space:normal;overflow-wrap:break-word}
.narrow td{overflow-wrap:anywhere}
.plain td:first-child{color:var(--muted);white-space:nowrap}
tr.first td{border-top:2px solid var(--faint)}
.schema td{white-space:nowrap}
.schema td:last-child{white-space:normal;min-width:230px;font-size:.94em;color:var(--muted)}
.schema td:first-child{color:var(--ink);white-space:normal;min-width:90px}
.schema tr.out td,.schema tr.out td:first-child{color:var(--muted);opacity:.62}
.badge{display:inline-block;margin-left:.35em;padding:0 .5em;border-radius:99px;background:var(--c0);
color:var(--card);font-size:.78em;font-weight:600}
.bar{display:block;width:64px;height:5px;border-radius:3px;background:var(--line);overflow:hidden}
.bar i{display:block;height:100%;background:var(--c1)}
.wide{overflow-x:auto}.wide svg{min-width:min(100%,420px)}
.shifts{margin:.2rem 0 0;padding:0;list-style:none;font-size:.84rem;color:var(--muted);overflow-wrap:anywhere}
.shifts b{color:var(--ink);font-weight:600}
td.best{font-weight:700;color:var(--c0)}
details{margin:.9rem 0 0}
summary{cursor:pointer;font-weight:600;font-size:.95rem;padding:.25rem 0}
ul.plainlist{margin:.4rem 0;padding-left:1.15rem}
ul.plainlist li{margin:.3rem 0;max-width:86ch;overflow-wrap:anywhere}
footer{color:var(--muted);font-size:.88rem}
@media (max-width:980px){.split{display:block}.split .keys{flex-direction:row}.page{display:block;
padding:22px 16px 48px}nav{position:static;max-height:none;margin:22px 0}
nav ul{display:flex;flex-wrap:wrap;gap:.2rem .2rem;border:0}
nav a{padding:.15rem .65rem;border:1px solid var(--line);border-radius:99px;background:var(--card)}}
@media (max-width:560px){body{font-size:15px}h1{font-size:1.6rem}main>section{padding:18px 15px;border-radius:10px}
.cards{gap:10px}.figure-card{flex-basis:calc(50% - 5px);padding:11px 13px}.figure-card b{font-size:1.3rem}
.strip{display:block}.strip span b{display:inline}.flow:not(.tiny) img{width:calc(16.66% - 6px)}.flow{gap:7px}
th,td{padding:.4rem .55rem}}
"""
)
