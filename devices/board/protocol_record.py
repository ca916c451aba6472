"""`record://URL?file=session.board`: any port, with all frames that go over it written to a file. pyserial finds this
module by its name."""

from __future__ import annotations

from urllib.parse import parse_qs

from .around import Around, split
from .recording import Recorder


class Serial(Around):
    """A port that is written down."""

    def begin(self, url: str) -> str:
        """Open the file."""
        inside, query = split(url, "record", "record:///dev/ttyACM0?file=session.board")
        options = parse_qs(query)
        if options.keys() != {"file"}:
            raise ValueError("a record:// URL ends with ?file=NAME and no other option")
        self._recorder = Recorder.to(options["file"][0], inside)
        return inside

    def leaving(self, data: bytes) -> bytes:
        """Written down as what the host said."""
        self._recorder.said(">", data)
        return data

    def arriving(self, data: bytes) -> bytes:
        """Written down as what the board said."""
        self._recorder.said("<", data)
        return data

    def close(self) -> None:
        """Close port and file."""
        was_open = self.is_open
        super().close()
        if was_open:
            self._recorder.close()
