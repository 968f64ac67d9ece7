"""The child: one request as JSON on standard input, the verdict as JSON in the file named on the command line.

python -m taxiway.convert VERDICT

What exporters print goes where this process's output goes; it is never read as an answer. Memory is limited here,
before anything large is imported.
"""

from __future__ import annotations

import resource
import sys
import warnings
from pathlib import Path

import msgspec

from taxiway.convert.outcome import NotConverted, Outcome, Reason, Request


def main() -> None:
    """Convert, and leave the verdict; written anew before each attempt, for an exporter may end this process."""
    verdict = Path(sys.argv[1])
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    resource.setrlimit(resource.RLIMIT_DATA, (request.memory_limit_bytes, request.memory_limit_bytes))
    warnings.simplefilter("ignore")  # exporters and frameworks warn of each other's ages; the comparison judges

    def note(outcome: Outcome) -> None:
        verdict.write_bytes(msgspec.json.encode(outcome))

    try:
        from taxiway.convert.attempts import convert  # noqa: PLC0415 - after the limit

        note(convert(request, note))
    except ImportError as problem:
        note(
            NotConverted(
                reason=Reason.LIBRARY_MISSING,
                message=f"conversion needs {problem.name}, which is not installed",
                hint="pip install 'taxiway[onnx]'",
            )
        )


if __name__ == "__main__":
    main()
