"""The study's local web server."""

import functools
import threading
import time
import urllib.parse
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from handjax.errors import InputError
from launch.study import pages
from launch.study.pictures import encode_picture
from launch.study.store import Store
from launch.study.trials import Trial, plan

LONGEST_NAME = 64
_MOST_BYTES = 4096
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; form-action 'self'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class StudyServer(ThreadingHTTPServer):
    """Serves a study until `shutdown`."""

    daemon_threads = True

    def __init__(self, store: Store, host: str, port: int):
        """Takes the address; port 0 takes a free one.

        Raises:
          InputError: the address cannot be had.
        """
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise InputError(f"{host}:{port}: cannot be served ({error}); give another --port") from error
        self.store = store
        self.paths = {picture.token: picture.path for picture in store.pictures}
        self._begun: dict[tuple[str, int], float] = {}
        self._answering = threading.Lock()

    @property
    def url(self) -> str:
        """The address of the first page."""
        return f"http://{self.server_address[0]!s}:{self.server_port}/"

    @functools.lru_cache(maxsize=256)  # noqa: B019 (a server lives as long as the process)
    def trials(self, rater: str) -> list[Trial]:
        """A rater's trials."""
        return plan(self.store.pictures, self.store.settings, rater)

    def show(self, rater: str) -> bytes:
        """The page of a rater's next trial."""
        trials, number = self.trials(rater), self.store.answered(rater)
        if number == len(trials):
            return pages.end_page(len(trials))
        self._begun.setdefault((rater, number), time.monotonic())
        return pages.trial_page(rater, trials[number], len(trials))

    def answer(self, rater: str, number: int, answer: str) -> bool:
        """Takes an answer to the rater's next trial; one to an earlier trial was already given.

        Returns:
          False where it is none to a trial that was shown.
        """
        trials = self.trials(rater)
        with self._answering:
            shown = min(self.store.answered(rater) + 1, len(trials))
            if number >= shown or answer not in trials[number].answers():
                return False
            begun = self._begun.pop((rater, number), None)
            seconds = None if begun is None else round(time.monotonic() - begun, 2)
            self.store.add(rater, trials[number], answer, seconds)
        return True


class _Handler(BaseHTTPRequestHandler):
    server: StudyServer
    server_version, sys_version = "study", ""

    def do_GET(self) -> None:
        place = urllib.parse.urlsplit(self.path)
        token = place.path.removeprefix("/image/").removesuffix(".png")
        if place.path == "/":
            self._send(pages.start_page())
        elif place.path == "/rate":
            rater = _rater(urllib.parse.parse_qs(place.query))
            self._send(self.server.show(rater)) if rater else self._redirect("/")
        elif place.path == f"/image/{token}.png" and token in self.server.paths:
            self._send_picture(self.server.paths[token])
        else:
            self._send(pages.error_page("There is no such page"), HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        size = int(length) if length.isascii() and length.isdigit() else _MOST_BYTES + 1
        body = self.rfile.read(size) if size <= _MOST_BYTES else b""
        form = urllib.parse.parse_qs(body.decode("utf-8", "replace"))
        rater, number = _rater(form), form.get("number", [""])[0]
        number = number if number.isascii() and len(number) < 9 else ""
        taken = self.path == "/answer" and rater and number.isdigit()
        if taken and self.server.answer(rater, int(number), form.get("answer", [""])[0]):
            self._redirect("/rate?" + urllib.parse.urlencode({"rater": rater}))
        else:
            self._send(pages.error_page("That was no answer to a question"), HTTPStatus.BAD_REQUEST)

    def _send_picture(self, path: str) -> None:
        try:
            self._send(encode_picture(path, self.server.store.settings.side), kind="image/png")
        except InputError:  # it was there when the study began
            self._send(pages.error_page("The picture is gone"), HTTPStatus.NOT_FOUND)

    def _send(self, content: bytes, status: HTTPStatus = HTTPStatus.OK, kind: str = "text/html; charset=utf-8") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        # a page kept by the browser would ask an answered question again
        self.send_header("Cache-Control", "private, max-age=3600" if kind == "image/png" else "no-store")
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _redirect(self, place: str) -> None:
        self.send_response(HTTPStatus.SEE_OTHER)
        self.send_header("Location", place)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Says nothing: names of raters are nobody's business."""


def _rater(fields: dict[str, list[str]]) -> str:
    """The rater's name in one spelling; "" where there is none."""
    return " ".join(fields.get("rater", [""])[0].split()).casefold()[:LONGEST_NAME]
