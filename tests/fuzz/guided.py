"""One harness under atheris, which goes where the coverage of `spooky` grows.

`python -m tests.fuzz.guided NAME FOLDER [an option of libFuzzer ...]`. What is found is in FOLDER:
`crash-...`, `oom-...`, `timeout-...`; in FOLDER/found what reached something new. Ends with a
status other than 0 at the first crash.
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["spooky"]):
    from tests.fuzz.harnesses import CORPUS, HARNESSES

OPTIONS = ("-print_final_stats=1", "-rss_limit_mb=2048", "-timeout=20", "-max_len=8192")


def main(name: str, folder: Path, *options: str) -> None:
    """Fuzz until the options say that it is enough; never returns."""
    found = folder / "found"
    found.mkdir(parents=True, exist_ok=True)
    where = (f"-artifact_prefix={folder}/", str(found), str(CORPUS / name))
    atheris.Setup([sys.argv[0], *OPTIONS, *options, *where], HARNESSES[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
