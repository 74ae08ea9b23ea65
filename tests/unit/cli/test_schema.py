"""`potstill schema`."""

import json

from typer.testing import CliRunner

from potstill.cli.main import app
from potstill.spec import RunSpec


def test_schema_names_every_section_of_the_spec() -> None:
    result = CliRunner().invoke(app, ["schema"])
    assert result.exit_code == 0
    assert set(json.loads(result.output)["properties"]) == set(RunSpec.model_fields)
