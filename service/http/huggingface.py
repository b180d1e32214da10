"""`POST /`: the image classification task of Hugging Face's clients."""

from http import HTTPStatus
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from service.http import problems
from service.http.answers import json_response, scores
from service.http.authorization import require_api_key
from service.http.context import Context
from service.http.deadlines import arriving, deadline_of
from service.http.description import images_body
from service.http.disconnect import unless_client_leaves
from service.http.inputs import read_inputs
from service.http.parameters import Count, JsonParameters, check_parameters, policy_maker, refuse_query
from service.http.walk import Walked, classify_images, require_answers, require_room

router = APIRouter()


class TaskParameters(BaseModel):
    """The parameters of the task; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    top_k: Count | None = Field(default=None, description="The number of classes; by default 5, or all of fewer.")
    function_to_apply: Literal["softmax"] | None = Field(default=None, description="Scores are softmax probabilities.")


class Score(TypedDict):
    """A class with its softmax probability, in the task's terms."""

    label: str
    score: float


@router.post(
    "/",
    summary="Hugging Face: image classification",
    response_model=list[Score] | list[list[Score]],
    responses={HTTPStatus.OK: {}, **problems.responses(400, 401, 403, 413, 415, 422, 429, 500, 503, 504)},
    openapi_extra=images_body("One image as it is, or one or a list of them in base64 inside JSON.", TaskParameters),
)
async def image_classification(request: Request) -> Response:
    """The most probable classes; for a list of images, a list of such lists.

    An image that fails makes the request fail, since the task has no errors of single images.
    """
    context: Context = request.app.state.context
    require_api_key(request, context)
    require_room(context)
    refuse_query(request.scope["query_string"], "send JSON with 'parameters'")
    deadline = deadline_of(request)
    inputs = await arriving(read_inputs(request, context), deadline)
    asked = check_parameters(TaskParameters, inputs.parameters or {})
    make_policy = policy_maker(JsonParameters(top_k=asked.top_k), context, deadline)
    outcomes = await unless_client_leaves(request, classify_images(context, inputs.images, make_policy))
    walked = require_answers(outcomes.images, "inputs" if inputs.as_list else "")
    answers = [_answer(each, context) for each in walked]
    headers = {"x-dvt-config-version": str(outcomes.config_version)}
    return json_response(answers if inputs.as_list else answers[0], headers)


def _answer(walked: Walked, context: Context) -> list[dict[str, Any]]:
    return [{"label": each["label"], "score": each["confidence"]} for each in scores(walked.answer.prediction, context)]
