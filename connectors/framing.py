"""Cuts a stream of bytes into lines: newline or NUL terminated, or octet-counted frames (RFC 6587, RFC 5425)."""

import re

_LENGTH_DIGITS_MAX = 10
_COUNTED = re.compile(rb"[1-9][0-9]{0,9} <")
_COUNTED_SO_FAR = re.compile(rb"[1-9][0-9]{0,9} ?")
_BETWEEN_FRAMES = frozenset(b"\n\r\0 ")  # some senders end a counted frame with a newline on top
_ENDS = b"\r\n\0"
NEWLINE = b"\n"
NUL = b"\0"


class Framer:
    """The framing of one connection or file, found out from its first bytes unless a terminator is given.

    A line longer than `line_bytes_max` is answered cut to that length; what follows of it is collected in pieces for
    `take_rest`, so nothing is held that could grow. Empty lines carry nothing and are left out. Cost is linear in the
    bytes fed, whatever their division into reads.
    """

    def __init__(self, line_bytes_max: int, terminator: bytes | None = None, *, cut: bool = False) -> None:
        self._max = line_bytes_max
        self._terminator = terminator
        self._detecting = terminator is None
        self._counted = False
        self._held = bytearray()
        self._need = 0  # bytes of `_held` without which no counted frame can be complete
        self._skip = 0  # bytes of an over-long counted frame still to come
        self._rest: list[bytes] = []
        self.cut = cut  # the line in progress has been answered already; up to its end it is rest
        self.truncated = 0
        self.framing_errors = 0

    @property
    def held(self) -> int:
        """Bytes of the incomplete line."""
        return len(self._held)

    def take_rest(self) -> list[bytes]:
        """What has been cut off since the last call."""
        rest, self._rest = self._rest, []
        return rest

    def feed(self, data: bytes) -> list[bytes]:
        if not data:
            return []
        if self._detecting:
            self._held += data
            if _COUNTED.match(self._held):
                self._counted = True
            elif len(self._held) <= _LENGTH_DIGITS_MAX + 1 and _COUNTED_SO_FAR.fullmatch(self._held):
                return []
            self._detecting = False
            data = bytes(self._held)
            self._held.clear()
        if self._counted:
            return self._feed_counted(data)
        if self._terminator is None:
            self._terminator = _first_terminator(data)
            if self._terminator is None:
                return self._hold(data)
        return self._feed_terminated(data, self._terminator)

    def close(self) -> list[bytes]:
        """The incomplete last line, if there is one."""
        line = bytes(self._held)
        self._held.clear()
        if self._counted:
            length, space, text = line.partition(b" ")
            line = text if space and length.isdigit() else line
        line = line.rstrip(_ENDS)
        return [line] if line else []

    def _feed_terminated(self, data: bytes, terminator: bytes) -> list[bytes]:
        if terminator not in data:
            return self._hold(data)
        first, _, data = data.partition(terminator)
        lines: list[bytes] = []
        if self.cut:
            if first:
                self._rest.append(first)
            self.cut = False
        else:
            if self._held:
                first = bytes(self._held) + first
                self._held.clear()
            lines.append(first.removesuffix(b"\r"))
        more = data.split(terminator)
        last = more.pop()
        if b"\r" in data:
            more = [line.removesuffix(b"\r") for line in more]
        lines += more
        lines = [line for line in lines if line]
        if lines and max(map(len, lines)) > self._max:
            lines = [self._shorten(line) for line in lines]
        return lines + self._hold(last) if last else lines

    def _hold(self, data: bytes) -> list[bytes]:
        if self.cut:
            self._rest.append(data)
            return []
        self._held += data
        if len(self._held) <= self._max:
            return []
        line = self._shorten(bytes(self._held))
        self._held.clear()
        self.cut = True
        self._terminator = self._terminator or NEWLINE
        return [line]

    def _shorten(self, line: bytes) -> bytes:
        if len(line) <= self._max:
            return line
        self.truncated += 1
        self._rest.append(line[self._max :])
        return line[: self._max]

    def _feed_counted(self, data: bytes) -> list[bytes]:
        if self._skip:
            self._rest.append(data[: self._skip])
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        if self._held:
            self._held += data
            if len(self._held) < self._need:
                return []
            data = bytes(self._held)
            self._held.clear()
        lines: list[bytes] = []
        at, size = 0, len(data)
        while at < size:
            if data[at] in _BETWEEN_FRAMES:
                at += 1
                continue
            space = data.find(b" ", at, at + _LENGTH_DIGITS_MAX + 1)
            digits = data[at : space if space > 0 else size]
            if not digits.isdigit() or len(digits) > _LENGTH_DIGITS_MAX:
                # Out of step: no length can be trusted from here on. As lines, the bytes are at least kept.
                self.framing_errors += 1
                self._counted = False
                self._terminator = NEWLINE
                return lines + self._feed_terminated(data[at:], NEWLINE)
            if space < 0:
                self._need = size - at + 1
                break
            start = space + 1
            end = start + int(digits)
            whole = min(end, start + self._max)
            if whole > size:
                self._need = whole - at
                break
            line = data[start:whole]
            if end > whole:
                self.truncated += 1
                self._rest.append(data[whole:end])
                self._skip = max(0, end - size)
            elif line and line[-1] in _ENDS:
                line = line.rstrip(_ENDS)
            if line:
                lines.append(line)
            at = end
        self._held += data[at:]
        return lines


def _first_terminator(data: bytes) -> bytes | None:
    newline, nul = data.find(NEWLINE), data.find(NUL)
    if nul >= 0 and (newline < 0 or nul < newline):
        return NUL
    return NEWLINE if newline >= 0 else None
