import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from handjax.errors import InputError
from handjax.files import atomic_write
from handjax.images import color_profile, decode_image, encode_png, find_images, read_frames, read_image, write_image


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


def encoded(image: Image.Image, fmt: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


def test_png_round_trip_is_exact(picture, tmp_path):
    write_image(tmp_path / "a.png", picture)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), picture)
    np.testing.assert_array_equal(decode_image(encode_png(picture), "a"), picture)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_exif_orientation_is_applied(picture):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.fromarray(picture), "PNG", exif=exif)
    np.testing.assert_array_equal(decode_image(data, "a"), np.rot90(picture, -1))


def test_transparent_pixels_become_white():
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0, 0] = (10, 20, 30, 255)
    image = decode_image(encoded(Image.fromarray(rgba), "PNG"), "a")
    assert image[0, 0].tolist() == [10, 20, 30]
    assert image[1, 1].tolist() == [255, 255, 255]


def test_sixteen_bit_grey_keeps_its_range():
    grey = np.array([[0, 65535], [32896, 257]], np.uint16)
    image = decode_image(encoded(Image.fromarray(grey), "PNG"), "a")
    assert image[..., 0].tolist() == [[0, 255], [128, 1]]


@pytest.mark.parametrize("data, words", [(b"", "empty"), (b"plain text", "not a picture")])
def test_what_is_no_picture_is_one_line(data, words):
    with pytest.raises(InputError, match=words) as caught:
        decode_image(data, "photo.jpg")
    assert "photo.jpg" in str(caught.value) and "\n" not in str(caught.value)


def test_of_a_video_its_frames_are_asked_for(tmp_path):
    path = tmp_path / "wave.MP4"
    path.write_bytes(b"\0\0\0\x18ftypmp42" + bytes(100))
    for read in (read_image, lambda path: list(read_frames(path))):
        with pytest.raises(InputError, match=r"wave\.MP4: a video is read as a folder of its frames; .*ffmpeg -i"):
            read(path)


def test_truncated_picture_is_one_line():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = encoded(Image.fromarray(noise), "JPEG")
    with pytest.raises(InputError, match="damaged"):
        decode_image(data[: len(data) // 2], "photo.jpg")


def test_huge_picture_is_refused_before_decoding():
    data = encoded(Image.new("1", (20_000, 20_000)), "PNG")
    with pytest.raises(InputError, match="scale it down"):
        decode_image(data, "huge.png")


def test_find_images_names_what_is_wrong(tmp_path):
    with pytest.raises(InputError, match="holds no pictures"):
        find_images([tmp_path])
    with pytest.raises(InputError, match="no such file"):
        find_images([tmp_path / "nothing"])


def test_failed_write_leaves_the_old_file(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_folder_is_replaced_as_a_whole(tmp_path):
    for content in ("one", "two"):
        with atomic_write(tmp_path / "folder") as temporary:
            temporary.mkdir()
            (temporary / content).write_text(content)
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["two"]


def test_the_color_profile_goes_with_the_picture(picture, tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    Image.fromarray(picture).save(tmp_path / "wide.png", icc_profile=profile)
    write_image(tmp_path / "out.png", picture, color_profile(tmp_path / "wide.png"))
    assert Image.open(tmp_path / "out.png").info["icc_profile"] == profile
    write_image(tmp_path / "plain.png", picture)
    assert color_profile(tmp_path / "plain.png") is None


def test_a_place_that_cannot_be_written_is_told_in_one_line(picture, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/a\.png: cannot be written \(.*\); choose another place"):
        write_image(tmp_path / "file" / "a.png", picture)
