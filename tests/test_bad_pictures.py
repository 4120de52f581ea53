"""Every kind of picture that people have, and what is none: values, one-line errors, bounded memory."""

import io
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from handjax.errors import InputError
from handjax.images import MAX_PIXELS, color_profile, decode_image, find_images, read_frames, read_image

ORIENTATION = 0x0112
# What each EXIF orientation says of the stored rows and columns, undone.
UPRIGHT = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: stored[::-1].swapaxes(0, 1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: stored.swapaxes(0, 1)[::-1],
}
LOSSLESS = {"PNG": {}, "TIFF": {}, "WEBP": {"lossless": True}}


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


def encoded(image: Image.Image, fmt: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


def flat(mode, value, size=(16, 16)) -> Image.Image:
    return Image.new(mode, size, value)


def middle(data: bytes) -> list[int]:
    image = decode_image(data, "a")
    return image[image.shape[0] // 2, image.shape[1] // 2].tolist()


@pytest.mark.parametrize("fmt", LOSSLESS)
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_every_orientation_is_undone(picture, fmt, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = encoded(Image.fromarray(picture), fmt, exif=exif, **LOSSLESS[fmt])
    np.testing.assert_array_equal(decode_image(data, "a"), UPRIGHT[orientation](picture))


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_a_turned_jpeg_comes_back_upright(orientation):
    """A red corner, by which all eight differ together with the sides' lengths; blocks of 16 survive JPEG."""
    stored = np.full((32, 64, 3), 40, np.uint8)
    stored[:16, :16] = (230, 20, 20)
    stored[:16, 48:] = (20, 230, 20)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image = decode_image(encoded(Image.fromarray(stored), "JPEG", quality=98, subsampling=0, exif=exif), "a")
    np.testing.assert_allclose(image.astype(int), UPRIGHT[orientation](stored).astype(int), atol=12)


@pytest.mark.parametrize("fmt", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_whatever_their_range(fmt):
    """Also a picture so dark that all its values would fit in 8 bits."""
    grey = np.array([[0, 255], [256, 65535], [32768, 513]], np.uint16)
    image = decode_image(encoded(Image.fromarray(grey), fmt), "a")
    assert image.tolist() == [[[high] * 3 for high in row] for row in [[0, 0], [1, 255], [128, 2]]]
    assert decode_image(encoded(Image.fromarray(grey[:1]), fmt), "a").max() == 0


def test_sixteen_bit_colours_are_scaled():
    """Pillow writes no such file: a PNG of 2 pixels by hand."""
    rows = b"\0" + struct.pack(">6H", 65535, 32768, 255, 0, 256, 4096)
    image = decode_image(png_file(struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0), rows), "a")
    assert image.tolist() == [[[255, 128, 0], [0, 1, 16]]]


def png_file(header: bytes, rows: bytes) -> bytes:
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    body = [struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def test_values_of_unknown_range_are_refused():
    for values, words in ((np.float32([[0.5]]), "floating-point"), (np.int32([[70000]]), "not of 16 bits")):
        with pytest.raises(InputError, match=f"a.tif: .*{words}.*8 or 16 bits"):
            decode_image(encoded(Image.fromarray(values), "TIFF"), "a.tif")


def test_grey_and_black_and_white_become_rgb():
    assert middle(encoded(flat("L", 77), "PNG")) == [77, 77, 77]
    assert middle(encoded(flat("1", 1), "PNG")) == [255, 255, 255]
    np.testing.assert_allclose(middle(encoded(flat("L", 77), "JPEG")), [77, 77, 77], atol=1)


INK, OF_INK = (200, 30, 90, 40), [46, 190, 139]  # 255 is all ink; each colour is what two inks leave of the light


def test_cmyk_of_adobe_whose_bytes_are_inverted():
    data = encoded(flat("CMYK", INK), "JPEG", quality=100)
    assert b"Adobe" in data
    np.testing.assert_allclose(middle(data), OF_INK, atol=2)


def test_cmyk_that_adobe_stores_as_luma_and_chroma():
    """The colour transform 2 of Adobe's marker, YCCK: YCbCr of what the inverted bytes leave, so of the inks."""
    red, _, blue = INK[:3]
    y = np.array(INK[:3]) @ [0.299, 0.587, 0.114]
    values = (y, 128 + (blue - y) / 1.772, 128 + (red - y) / 1.402)
    stored = tuple(255 - round(value) for value in values) + (INK[3],)  # Pillow inverts what it writes
    data = bytearray(encoded(flat("CMYK", stored), "JPEG", quality=100))
    data[data.index(b"Adobe") + 11] = 2
    np.testing.assert_allclose(middle(bytes(data)), OF_INK, atol=3)


def test_cmyk_of_tiff_is_not_inverted():
    assert middle(encoded(flat("CMYK", INK), "TIFF")) == OF_INK


def test_transparency_of_every_kind_is_over_white():
    half = flat("RGBA", (200, 100, 0, 128))
    for fmt, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})):
        np.testing.assert_allclose(middle(encoded(half, fmt, **options)), [227, 177, 127], atol=1)
    np.testing.assert_allclose(middle(encoded(flat("LA", (100, 51)), "PNG")), [224] * 3, atol=1)
    palette = flat("P", 1)
    palette.putpalette([10, 20, 30, 100, 0, 200])
    assert middle(encoded(palette, "PNG")) == middle(encoded(palette, "GIF")) == [100, 0, 200]
    assert middle(encoded(palette, "PNG", transparency=bytes([255, 51]))) == [224, 204, 244]
    assert middle(encoded(palette, "GIF", transparency=1)) == [255, 255, 255]
    assert middle(encoded(flat("RGB", (1, 2, 3)), "PNG", transparency=(1, 2, 3))) == [255, 255, 255]


@pytest.mark.parametrize("fmt", ["GIF", "WEBP", "PNG"])
def test_animations_show_their_first_frame(tmp_path, fmt):
    frames = [flat("RGB", color) for color in ((250, 0, 0), (0, 250, 0), (0, 0, 250))]
    options = {"lossless": True} if fmt == "WEBP" else {}
    path = tmp_path / f"a.{fmt.lower()}"
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    np.testing.assert_array_equal(read_image(path)[8, 8], [250, 0, 0])
    assert [frame[8, 8].argmax() for frame in read_frames(path)] == [0, 1, 2]


def test_cameras_jpeg_with_a_second_picture_is_the_first():
    first, second = flat("RGB", (200, 0, 0)), flat("RGB", (0, 0, 200))
    np.testing.assert_allclose(
        middle(encoded(first, "MPO", save_all=True, append_images=[second])), [200, 0, 0], atol=2
    )


def test_one_pixel_is_a_picture():
    assert decode_image(encoded(flat("RGB", (1, 2, 3), (1, 1)), "PNG"), "a").tolist() == [[[1, 2, 3]]]


def test_files_that_are_none_are_one_line(tmp_path):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    photo = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)), "JPEG")
    (tmp_path / "cut.jpg").write_bytes(photo[: len(photo) // 2])
    expected = {
        "folder.png": "a folder, not a picture",
        "empty.jpg": "the file is empty",
        "text.jpg": "not a picture; give JPEG",
        "cut.jpg": "the picture is damaged",
        "absent.jpg": "no such file",
        "a" * 300: "cannot be read",
    }
    for name, words in expected.items():
        with pytest.raises(InputError) as caught:
            read_image(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: {words}") and "\n" not in str(caught.value)
    with pytest.raises(InputError, match="a{300}: cannot be read"):
        find_images(["a" * 300])


def test_a_file_one_may_not_read_is_one_line(tmp_path):
    path = tmp_path / "secret.png"
    path.write_bytes(encoded(flat("RGB", 0), "PNG"))
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(InputError, match=r"secret\.png: cannot be read \(Permission denied\)"):
        read_image(path)


def test_a_file_that_cannot_be_opened_is_one_line(tmp_path, monkeypatch):
    """Also where the tests run as a user who may read everything."""

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "secret.png"
    path.touch()
    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(InputError, match=r"secret\.png: cannot be read \(Permission denied\)"):
        read_image(path)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damage_anywhere_is_one_line_or_a_picture():
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    image = Image.fromarray(rng.integers(0, 256, (24, 17, 3), np.uint8))
    refused = 0
    for fmt in ("JPEG", "PNG", "WEBP", "GIF", "BMP"):
        whole = encoded(image, fmt, **({} if fmt in ("GIF", "BMP") else {"exif": exif}))
        for _ in range(60):
            data = bytearray(whole)
            for place in rng.integers(0, len(data), 4):
                data[place] = rng.integers(256)
            try:
                assert decode_image(bytes(data[: rng.integers(1, 3 * len(data))]), "a").ndim == 3
            except InputError as error:
                refused += 1
                assert str(error).startswith("a: ") and "\n" not in str(error)
    assert 100 < refused < 250


def peak_gib(path) -> tuple[float, str]:
    """Peak memory of a process that reads a picture, and what it says of it."""
    code = (
        "import pathlib, re, sys\nfrom handjax.errors import InputError\nfrom handjax.images import read_image\n"
        "try: print(read_image(sys.argv[1]).shape)\nexcept InputError as error: print(error)\n"
        # not the peak of getrusage, which starts at the parent's
        "print(int(re.search(r'VmHWM:\\s+(\\d+)', pathlib.Path('/proc/self/status').read_text())[1]) / 2**20)"
    )
    result = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    said, peak = result.stdout.strip().splitlines()
    return float(peak), said


@pytest.mark.parametrize("mode", ["1", "RGB"])
def test_a_small_file_of_a_huge_picture_is_refused_before_it_grows(tmp_path, mode):
    path = tmp_path / "huge.png"
    header = struct.pack(">IIBBBBB", 20_000, 20_000, *((1, 0) if mode == "1" else (8, 2)), 0, 0, 0)
    path.write_bytes(png_file(header, bytes(1000)))
    peak, said = peak_gib(path)
    assert f"huge.png: its pixels are more than {MAX_PIXELS:,}; scale it down first" in said
    assert peak < 0.3


def test_the_limit_is_named_for_pictures_just_above_it(tmp_path):
    path = tmp_path / "large.png"
    path.write_bytes(png_file(struct.pack(">IIBBBBB", 10_001, 10_000, 8, 2, 0, 0, 0), bytes(1000)))
    with pytest.raises(InputError, match=r"10001x10000 pixels are more than 100,000,000; scale it down first"):
        read_image(path)


def test_memory_is_bounded_by_the_number_of_pixels(tmp_path):
    """Transparent and turned, the worst case but for WebP; a full-size picture would take 1.5 GiB."""
    side, exif = 5000, Image.Exif()
    exif[ORIENTATION] = 6
    flat("RGBA", (200, 10, 30, 100), (side, side)).save(tmp_path / "a.png", exif=exif)
    (tmp_path / "text.png").write_text("none")
    peak, said = peak_gib(tmp_path / "a.png")
    assert said == f"({side}, {side}, 3)"
    assert peak - peak_gib(tmp_path / "text.png")[0] < 15 * side**2 / 2**30


def test_a_colour_profile_is_only_that_of_rgb(tmp_path):
    flat("CMYK", INK).save(tmp_path / "a.jpg", icc_profile=b"cmyk")
    flat("RGB", 0).save(tmp_path / "b.jpg", icc_profile=b"rgb")
    assert color_profile(tmp_path / "a.jpg") is None and color_profile(tmp_path / "b.jpg") == b"rgb"
