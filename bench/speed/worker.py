"""A process that builds one contender and then runs a repetition for each line that it reads.

    python -m speed.worker CASE CONTENDER SIZE

It writes one JSON line when the contender is built and one after each repetition; output of libraries goes to stderr.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    began = time.perf_counter()
    from speed.case import Absent, Size, chosen

    def answer(**values: object) -> None:
        answers.write(json.dumps(values) + "\n")

    name, contender, size = sys.argv[1:4]
    [case] = [case for case in chosen([name]) if case.name == name]
    try:
        repeat = case.contenders[contender](Size(quick=size == "quick", full=size == "full"))
    except (Absent, ImportError) as error:
        return answer(absent=str(error))
    except Exception as error:
        traceback.print_exc()
        return answer(failed=f"{type(error).__name__}: {error}")
    answer(setup=time.perf_counter() - began, threads=threads())
    for line in sys.stdin:
        began = time.perf_counter()
        try:
            found = repeat(int(line))
        except Exception as error:
            traceback.print_exc()
            return answer(failed=f"{type(error).__name__}: {error}")
        answer(took=time.perf_counter() - began, **found)


def threads() -> int | None:
    """The number of torch's threads, if this contender has imported torch."""
    torch = sys.modules.get("torch")
    return None if torch is None else torch.get_num_threads()


if __name__ == "__main__":
    main()
