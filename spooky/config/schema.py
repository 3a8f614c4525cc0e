"""The JSON Schema of the configuration file, for editors that complete and check it.

Made of the declarations that the loader reads by. It describes the present form alone, and key
by key: what holds between keys, or depends on files, only the loader knows.
`python -m spooky.config.schema` prints it.
"""

import json
import sys

from spooky.config.scalars import Json
from spooky.config.tables import CONFIG

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema() -> Json:
    """The whole schema (draft 2020-12) as plain data."""
    return {"$schema": DIALECT, "title": "Spooky's configuration", **CONFIG.schema()}


def schema_text() -> str:
    """The schema as the text of `config/spooky.schema.json`."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
