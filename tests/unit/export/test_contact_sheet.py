import base64
import io
import re

import numpy as np
import PIL.Image
import pytest

from fmbseg.export.contact_sheet import PAGE, ContactSheet
from fmbseg.pictures.colours import palette
from tests.support.export_images import many_images


@pytest.mark.parametrize("place", [0, 254, 255, 256, 299])
def test_every_class_is_drawn_in_its_own_colour_past_255_too(tmp_path, place):
    """The class of pixels without a label, which comes after 255 classes, has the index 255."""
    names, (one,) = many_images(tmp_path)
    one.labels[:] = -1
    one.labels[:, 5:30] = place
    sheet = ContactSheet(names, 1)
    assert list(sheet.over(iter([one]))) == [one]
    sheet.write(tmp_path, "title", {})
    (data,) = re.findall(r"data:image/jpeg;base64,([\w+/=]+)", (tmp_path / PAGE).read_text())
    with PIL.Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        pixels = np.asarray(picture).astype(int)
    assert abs(pixels[0, 10:25].mean(0) - palette(300)[place]).max() < 30, "JPEG blurs colours"
    assert pixels[0, 60:].max() < 30
