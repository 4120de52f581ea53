import json

import pytest

from data_pipelines.captions import Captions
from handjax.errors import InputError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "1.txt").write_text("beside\n the photo\n")
    (tmp_path / "captions.csv").write_text('b/2.jpg,"from a table, quoted"\n')
    (tmp_path / "captions.json").write_text(json.dumps({"3.jpg": "from an object"}))
    return tmp_path


def test_captions_come_from_text_table_and_object(folder):
    captions = Captions.load(folder)
    names = ("b/1.jpg", "b/2.jpg", "3.jpg", "4.jpg")
    written = [captions.write(folder / name, folder, "left hand", "left") for name in names]
    assert written == ["beside the photo", "from a table, quoted", "from an object", "a photo of a left hand"]


def test_template_puts_folder_and_hand_into_words(folder):
    captions = Captions.load(folder, "{hand}, sign {folder}, {side}: {caption}")
    written = captions.write(folder / "b/1.jpg", folder, "open right hand", "right")
    assert written == "an open right hand, sign b, right: beside the photo"


@pytest.mark.parametrize("template", ["{pose}", "{hand", "{}"])
def test_wrong_templates_are_refused(folder, template):
    with pytest.raises(InputError, match="caption"):
        Captions.load(folder, template)


@pytest.mark.parametrize("name, text", [("captions.json", "[1]"), ("captions.json", "{"), ("captions.csv", "a,b,c\n")])
def test_wrong_files_are_refused(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=name):
        Captions.load(tmp_path)
