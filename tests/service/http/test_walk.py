import pytest

from service.errors import DeviceLostError, OverloadedError
from service.http.walk import require_answers


@pytest.mark.parametrize(("name", "text"), [("inputs", "inputs[1]: no room"), ("", "no room")])
def test_require_answers_names_the_place_of_the_first_error_and_keeps_its_kind(name, text):
    error = OverloadedError("no room", retry_after_s=7)
    with pytest.raises(OverloadedError) as raised:
        require_answers(["an answer", error, DeviceLostError("gone")], name)

    assert (str(raised.value), raised.value.retry_after_s, str(error)) == (text, 7, "no room")
