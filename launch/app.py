"""Pages in the browser, and what they collected.

python -m launch.app study --folders real=photos/ ours=refined/ other=baseline/ --out study.sqlite
python -m launch.app study --out study.sqlite
python -m launch.app analyse study.sqlite

The study is blinded: raters see pictures by random names, encoded alike, in an order of their own. It asks whether a
picture is real (R2G, G2R), which of several of one name is best (preference), and how good one is (1 to 5). Answers are
in the file when the next question appears; a rater goes on with the same name, the study with the second command.
"""

import argparse
import secrets
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from handjax.errors import ConfigError, InputError
from launch import command
from launch.study.analysis import MEASURES, analyse
from launch.study.pictures import check_pictures, file_hash, find_pictures
from launch.study.server import StudyServer
from launch.study.store import Store
from launch.study.trials import PREFER, TASKS, Settings, common_names, plan

DEFAULTS: dict[str, Any] = {"real": "real", "tasks": ",".join(TASKS), "trials": 30, "seed": 0, "side": 512}


def main() -> int:
    """Runs the named page or the analysis."""
    arguments = _parse_arguments()
    return _study(arguments) if arguments.page == "study" else _analyse(arguments)


def _study(arguments: argparse.Namespace) -> int:
    """Serves a study, a new one or the one in the file, until it is told to stop."""
    store = _resume(arguments) if arguments.out.exists() else _begin(arguments)
    server = StudyServer(store, arguments.host, arguments.port)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"open {server.url} (stop with Ctrl-C; answers are in {arguments.out})", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    server.server_close()
    store.close()
    return 0


def _begin(arguments: argparse.Namespace) -> Store:
    if not arguments.folders:
        raise ConfigError(f"{arguments.out}: no such study; begin one with --folders NAME=DIR NAME=DIR …")
    values = {name: getattr(arguments, name) for name in DEFAULTS}
    values = DEFAULTS | {name: value for name, value in values.items() if value is not None}
    folders = _folders(arguments.folders)
    if arguments.real is not None and arguments.real not in folders:
        raise ConfigError(f"--real {arguments.real}: not among --folders {', '.join(folders)}")
    tasks = tuple(values["tasks"].split(","))
    if not tasks or set(tasks) - set(TASKS) or len(set(tasks)) < len(tasks):
        raise ConfigError(f"--tasks {values['tasks']}: must be of {','.join(TASKS)}, each once")
    if values["trials"] < 1 or not 16 <= values["side"] <= 4096:
        raise ConfigError(f"--trials {values['trials']} must be at least 1, --side {values['side']} from 16 to 4096")
    real = values["real"] if values["real"] in folders else None
    settings = Settings(real, tasks, values["trials"], values["seed"], values["side"])
    secret = secrets.token_hex(16)
    pictures = find_pictures(folders, secret)
    if PREFER in tasks:
        common_names(pictures, real)
    warning = check_pictures(pictures)
    if warning:
        print(f"warning: {warning}", file=sys.stderr)
    return Store.create(arguments.out, secret, settings, pictures)


def _resume(arguments: argparse.Namespace) -> Store:
    """Opens a study, whose settings and pictures must be what they were."""
    store = Store(arguments.out)
    settings = vars(store.settings) | {"tasks": ",".join(store.settings.tasks)}
    for name in DEFAULTS:
        given = getattr(arguments, name)
        if given is not None and given != settings[name]:
            raise ConfigError(f"--{name} {given}: {arguments.out} was begun with {settings[name]}; leave it away")
    if arguments.folders:
        found = find_pictures(_folders(arguments.folders), store.secret)
        if {(p.token, p.sha256) for p in found} != {(p.token, p.sha256) for p in store.pictures}:
            raise InputError(f"{arguments.out}: was begun with other pictures than --folders has; name another --out")
    for picture in store.pictures:
        if file_hash(picture.path) != picture.sha256:
            raise InputError(f"{picture.path}: has changed since the study began; put the picture back")
    return store


def _folders(named: list[str]) -> dict[str, Path]:
    folders: dict[str, Path] = {}
    for text in named:
        name, equals, folder = text.partition("=")
        if not name or not equals or not folder or name in folders:
            raise ConfigError(f"--folders {text}: write NAME=DIR, each name once")
        if not Path(folder).is_dir():
            raise InputError(f"--folders {text}: {folder} is no folder")
        folders[name] = Path(folder)
    return folders


def _analyse(arguments: argparse.Namespace) -> int:
    """Prints the measures of all conditions with their intervals."""
    report = command.Report("app analyse", arguments.json)
    store = Store(arguments.file)
    answered = store.raters()
    if not answered:
        raise InputError(f"{arguments.file}: nobody has answered yet; run launch.app study --out {arguments.file}")
    conditions = list(dict.fromkeys(picture.condition for picture in store.pictures))
    results = analyse(store.answers(), conditions, store.settings.real, arguments.seed)
    whole = {rater: len(plan(store.pictures, store.settings, rater)) for rater in answered}
    finished = sum(answered[rater] == whole[rater] for rater in answered)
    for item in results["items"]:
        report.item(item, _line(item["condition"], item, MEASURES[item["measure"]]))
    if not arguments.json:
        for difference in results["differences"]:
            print(_line(" − ".join(difference["conditions"]), difference, f"difference, {difference['measure']}"))
        print(f"{len(answered)} raters, {finished} of them finished; {results['no_difference']} without preference")
    raters = {"total": len(answered), "finished": finished}
    return report.finish(differences=results["differences"], no_difference=results["no_difference"], raters=raters)


def _line(name: str, item: dict[str, Any], what: str) -> str:
    form = (lambda value: f"{value:.2f}") if item["measure"] == "rating" else (lambda value: f"{100 * value:.1f} %")
    interval = item["interval"]
    between = f"[{form(interval[0])}, {form(interval[1])}]" if interval else "(one rater: no interval)"
    of = f", {item['answers']} answers of {item['raters']} raters" if "answers" in item else ""
    return f"{name}  {form(item['value'])} {between}  {what}{of}"


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="launch.app", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    pages = parser.add_subparsers(dest="page", required=True)
    study = pages.add_parser("study", help="serve a blinded study of pictures")
    study.add_argument("--folders", nargs="+", metavar="NAME=DIR", help="the conditions; pictures are paired by name")
    study.add_argument("--out", type=Path, required=True, metavar="FILE.sqlite", help="the study; it is gone on with")
    study.add_argument("--real", metavar="NAME", help="the folder of photographs (default: the one named real)")
    study.add_argument("--tasks", metavar="NAMES", help=f"of {DEFAULTS['tasks']}, which is the default")
    study.add_argument("--trials", type=int, metavar="N", help="of each task, for each rater (default: 30)")
    study.add_argument("--seed", type=int, help="of the raters' orders (default: 0)")
    study.add_argument("--side", type=int, metavar="PIXELS", help="longer side of a shown picture (default: 512)")
    study.add_argument("--host", default="127.0.0.1", help="address to serve at; 0.0.0.0 for the whole network")
    study.add_argument("--port", type=int, default=8000, help="0 takes a free one")
    result = pages.add_parser("analyse", help="print what the answers say")
    result.add_argument("file", type=Path, metavar="FILE.sqlite", help="of a study, which may be running")
    result.add_argument("--seed", type=int, default=0, help="of the bootstrap over raters")
    result.add_argument("--json", action="store_true", help="print one JSON document")
    return parser.parse_args()


if __name__ == "__main__":
    command.run(main)
