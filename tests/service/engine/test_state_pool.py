import pytest
import torch

from models.reuse import ReuseState
from service.engine.state_pool import StatePool


def _state(rows: int, value: float, feature_map: bool = True) -> ReuseState:
    filled = torch.full((rows,), value) + torch.arange(rows)
    return ReuseState(
        tokens=filled.view(-1, 1, 1).expand(-1, 5, 3).clone(),
        relations=None,
        feature_map=filled.view(-1, 1, 1, 1).expand(-1, 2, 4, 4).clone() if feature_map else None,
    )


def _pool(capacity: int = 4) -> StatePool:
    return StatePool(capacity, torch.device("cpu"))


def test_load_gathers_the_rows_of_each_task_in_the_order_asked_for() -> None:
    pool = _pool()
    pool.store(0, [10, 11], _state(3, 0.0), rows=[2, 0])
    pool.store(0, [12], _state(1, 50.0), rows=[0])
    state = pool.load(0, [12, 10, 11, 10])
    assert state.tokens is not None
    assert state.feature_map is not None
    assert state.relations is None
    assert state.tokens[:, 0, 0].tolist() == [50.0, 2.0, 0.0, 2.0]
    assert state.feature_map[:, 0, 0, 0].tolist() == [50.0, 2.0, 0.0, 2.0]


def test_store_later_boundary_keeps_the_feature_map_of_the_first() -> None:
    pool = _pool()
    pool.store(0, [1], _state(1, 5.0), rows=[0])
    pool.store(1, [1], _state(1, 9.0), rows=[0])
    state = pool.load(1, [1])
    assert state.tokens is not None
    assert state.feature_map is not None
    assert (state.tokens[0, 0, 0], state.feature_map[0, 0, 0, 0]) == (9.0, 5.0)


def test_store_beyond_capacity_raises_and_writes_nothing() -> None:
    pool = _pool(capacity=2)
    pool.store(0, [1], _state(1, 1.0), rows=[0])
    with pytest.raises(RuntimeError, match="no reuse state slots for 2 images; 1 are free"):
        pool.store(0, [2, 3], _state(2, 7.0), rows=[0, 1])
    assert len(pool) == 1
    pool.release([1, 99])
    pool.store(0, [2, 3], _state(2, 7.0), rows=[0, 1])
    assert len(pool) == 2


@pytest.mark.parametrize(("boundary", "task_id"), [(0, 2), (1, 1)])
def test_load_state_that_is_not_there_raises_naming_the_task(boundary: int, task_id: int) -> None:
    pool = _pool()
    pool.store(0, [1], _state(1, 1.0), rows=[0])
    with pytest.raises(LookupError, match=f"task {task_id} holds no reuse state of stage {boundary}"):
        pool.load(boundary, [task_id])
