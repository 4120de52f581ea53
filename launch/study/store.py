"""The study on disk: one SQLite file with its settings, pictures and every answer."""

import contextlib
import dataclasses
import datetime
import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from handjax.errors import InputError
from handjax.files import atomic_write
from launch.study.pictures import StudyPicture
from launch.study.trials import Settings, Trial

VERSION = 1
_SCHEMA = """
CREATE TABLE study (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE pictures (token TEXT PRIMARY KEY, condition TEXT NOT NULL, name TEXT NOT NULL, path TEXT NOT NULL,
  sha256 TEXT NOT NULL);
CREATE TABLE answers (rater TEXT NOT NULL, number INTEGER NOT NULL, task TEXT NOT NULL, shown TEXT NOT NULL,
  answer TEXT NOT NULL, seconds REAL, at TEXT NOT NULL, PRIMARY KEY (rater, number));
"""


@dataclasses.dataclass(frozen=True)
class Answer:
    """One answer: whose, of which task, with the conditions shown and, where one picture was chosen, its condition.

    `value` is what was answered: "real", "generated", "1" to "5", or "none" where nothing was preferred.
    """

    rater: str
    task: str
    conditions: tuple[str, ...]
    value: str
    chosen: str | None


class Store:
    """An open study; its methods may be called from any thread."""

    def __init__(self, path: Path):
        """Opens a study.

        Raises:
          InputError: there is none, or the file is another one.
        """
        if not path.is_file():
            raise InputError(f"{path}: no such study; begin one with launch.app study --folders … --out {path}")
        self._lock = threading.Lock()
        try:
            self._db = sqlite3.connect(path, check_same_thread=False)
            values = {name: json.loads(value) for name, value in self._db.execute("SELECT name, value FROM study")}
        except (sqlite3.Error, ValueError) as error:
            raise InputError(f"{path}: not a study ({error}); name the file that launch.app study wrote") from error
        if values.get("version") != VERSION:
            raise InputError(f"{path}: a study of another version; finish it with the version that began it")
        self.secret: str = values["secret"]
        self.settings = Settings(**values["settings"] | {"tasks": tuple(values["settings"]["tasks"])})
        self.pictures = [StudyPicture(*row) for row in self._db.execute("SELECT * FROM pictures ORDER BY rowid")]

    @classmethod
    def create(cls, path: Path, secret: str, settings: Settings, pictures: Sequence[StudyPicture]) -> "Store":
        """Begins a study: the file is whole or absent."""
        values = {"version": VERSION, "secret": secret, "settings": dataclasses.asdict(settings)}
        try:
            with atomic_write(path) as temporary, contextlib.closing(sqlite3.connect(temporary)) as db, db:
                db.executescript(_SCHEMA)
                db.executemany("INSERT INTO study VALUES (?, ?)", [(n, json.dumps(v)) for n, v in values.items()])
                rows = [dataclasses.astuple(picture) for picture in pictures]
                db.executemany("INSERT INTO pictures VALUES (?, ?, ?, ?, ?)", rows)
        except sqlite3.Error as error:
            raise InputError(f"{path}: cannot be written ({error}); choose another place") from error
        return cls(path)

    def answered(self, rater: str) -> int:
        """How many of their trials a rater has answered: the number of the next one."""
        with self._lock:
            return self._db.execute("SELECT COUNT(*) FROM answers WHERE rater = ?", (rater,)).fetchone()[0]

    def add(self, rater: str, trial: Trial, answer: str, seconds: float | None) -> None:
        """Writes an answer down, for good when this returns; a second one to the same trial changes nothing."""
        at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        row = (rater, trial.number, trial.task, json.dumps(trial.shown), answer, seconds, at)
        with self._lock, self._db:
            self._db.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def raters(self) -> dict[str, int]:
        """Each rater's number of answers."""
        with self._lock:
            return dict(
                self._db.execute("SELECT rater, COUNT(*) FROM answers GROUP BY rater ORDER BY rater").fetchall()
            )

    def answers(self) -> Iterator[Answer]:
        """All answers with the conditions that they were about, by rater and number."""
        conditions = {picture.token: picture.condition for picture in self.pictures}
        with self._lock:
            rows: list[Any] = self._db.execute(
                "SELECT rater, task, shown, answer FROM answers ORDER BY rater, number"
            ).fetchall()
        for rater, task, shown, answer in rows:
            of = tuple(conditions[token] for token in json.loads(shown))
            yield Answer(rater, task, of, answer, conditions.get(answer))

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._db.close()
