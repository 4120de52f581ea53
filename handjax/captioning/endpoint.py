"""A vision-language model behind any endpoint that speaks OpenAI's chat completions."""

import base64
import http.client
import io
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from handjax.captioning.failures import NoAnswer
from handjax.errors import BackendError, ConfigError

LONGEST_SIDE = 768
"""Pixels of the picture that is sent; hands stay legible, and the request small."""
MOST_TOKENS = 400
_MOST_BYTES = 1 << 20
# 403 is not one of them: some servers refuse a picture for its content with it.
_REFUSED = {401: "the key is missing or wrong", 404: "there is no such model or path"}
_BUSY = frozenset({408, 409, 425, 429, 500, 502, 503, 504})


class Endpoint:
    """Asks a model over HTTP; a request that times out or finds the server busy is sent again."""

    def __init__(
        self, url: str, model: str, key: str = "", timeout: float = 60.0, retries: int = 2, pause: float = 1.0
    ):
        """Sends nothing yet.

        Args:
          url: of the API, such as http://localhost:8000/v1.
          model: its name there.
          key: sent as bearer token; "" sends none.
          timeout: seconds to wait for the server at a time.
          retries: how often a request is sent again.
          pause: seconds before the first repetition, doubled each time.

        Raises:
          ConfigError: not such a URL, or a number out of its range.
        """
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"--url {url}: must be an address such as http://localhost:8000/v1")
        if not timeout > 0 or retries < 0:
            raise ConfigError(f"--timeout {timeout} must be above 0, --retries {retries} at least 0")
        self._url = url.rstrip("/") + "/chat/completions"
        self._model, self._timeout, self._retries, self._pause = model, timeout, retries, pause
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        self._reached = False

    def __call__(self, prompt: str, image: UInt8[np.ndarray, "height width 3"] | None) -> str:
        """Asks once, about a picture or about the text alone.

        Raises:
          NoAnswer: no answer, or none that can be read, after all repetitions.
          ConfigError: the server refuses this key or model, as it would for every picture.
          BackendError: there is no server; once it has answered, that is a `NoAnswer`.
        """
        content: list[dict[str, Any]] = [{"type": "text", "text": prompt}]
        if image is not None:
            content.append({"type": "image_url", "image_url": {"url": _data_url(image)}})
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": content}],
            "temperature": 0,
            "max_tokens": MOST_TOKENS,
        }
        request = urllib.request.Request(self._url, json.dumps(body).encode(), self._headers)
        for attempt in range(self._retries + 1):
            if attempt:
                time.sleep(self._pause * 2 ** (attempt - 1))
            try:
                return self._send(request)
            except urllib.error.HTTPError as error:
                self._reached = True
                failure = f"HTTP {error.code} {error.reason}"
                if error.code in _REFUSED:
                    raise ConfigError(f"{self._url}: {failure}; {_REFUSED[error.code]}") from error
                if error.code not in _BUSY:
                    break
            except (OSError, http.client.HTTPException) as error:
                failure = _explain(error)
                self._reached |= isinstance(error, TimeoutError)  # unwrapped: after the request was sent
        if not self._reached:
            raise BackendError(f"{self._url}: cannot be reached ({failure}); start the server or give another --url")
        raise NoAnswer(failure)

    def _send(self, request: urllib.request.Request) -> str:
        with urllib.request.urlopen(request, timeout=self._timeout) as response:
            answer = response.read(_MOST_BYTES)
        self._reached = True
        try:
            text = json.loads(answer)["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise NoAnswer(f"no chat completion but {answer[:60]!r}") from error
        if not isinstance(text, str) or not text.strip():
            raise NoAnswer("an empty answer")
        return text


TIMED_OUT = "timed out"


def _explain(error: Exception) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    return TIMED_OUT if isinstance(cause, TimeoutError) else f"{cause}" or type(cause).__name__


def _data_url(image: UInt8[np.ndarray, "height width 3"]) -> str:
    picture = Image.fromarray(image)
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
