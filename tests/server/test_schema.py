"""The OpenAPI document against what the server does, with thousands of made-up requests."""

import subprocess
import sys
from pathlib import Path

import pytest

COMMON = ["--checks", "all", "--continue-on-failure", "--no-color"]
# Formats of files, options that exclude each other and roles of messages are more than a schema can say.
OWN = ["--include-path-regex", "^/(v1|health|metrics)", "--exclude-checks", "positive_data_acceptance"]
# The others take what their models take: null and nothing for what is left out, "0" for false.
OTHERS = ["--exclude-path-regex", "^/(v1|health|metrics)", "--exclude-checks"]
OTHERS.append("positive_data_acceptance,negative_data_rejection")


@pytest.mark.slow
@pytest.mark.parametrize("chosen", [OWN, OTHERS], ids=["own", "others"])
def test_no_request_brings_a_5xx_or_an_answer_that_is_not_in_the_document(serve, tmp_path, chosen):
    served = serve(max_characters=2000, max_texts=64, queue=500, queue_per_key=500)
    command = [str(Path(sys.executable).parent / "schemathesis"), "run", f"{served.url}/openapi.json"]
    command += [*COMMON, *chosen, "--max-examples", "25"]
    made = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert made.returncode == 0, made.stdout[-8000:]
    assert served.get("/health/ready").status_code == 200
