"""A real HTTP server that speaks OpenAI's chat completions, and answers what a test tells it to."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FIELDS = {
    "human_pose": "a person seen from the front",
    "action": "greeting",
    "hand_action": "waving the right hand",
    "environment": "a kitchen",
}
HANG = object()
"""An answer that does not come before the client gives up."""


class ChatServer(ThreadingHTTPServer):
    """Serves until the block ends; `requests` are the bodies that came, with their Authorization as "key".

    `answers` is called with a body and its number and gives the text of the answer, an HTTP status, `HANG`, or bytes to
    send as the whole body.
    """

    daemon_threads = True

    def __init__(self, answers):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers, self.requests, self.lock = answers, [], threading.Lock()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            number = len(self.server.requests)
            self.server.requests.append(body | {"key": self.headers["Authorization"], "path": self.path})
        answer = self.server.answers(body, number)
        if answer is HANG:
            time.sleep(2)
            return
        status = answer if isinstance(answer, int) else 200
        content = answer if isinstance(answer, bytes) else json.dumps(_completion(answer)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


def _completion(answer):
    return {"choices": [{"message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}]}


def sees_picture(body):
    """Whether this is the captioner's question and not the extractor's."""
    return any(part["type"] == "image_url" for part in body["messages"][0]["content"])
