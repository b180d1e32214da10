import pytest
import torch

from models.reuse import ReuseState
from service.engine.state_pool import StateMemoryError, StatePool


def _state(rows, value):
    filled = torch.full((rows,), value) + torch.arange(rows)
    return ReuseState(
        tokens=filled.view(-1, 1, 1).expand(-1, 5, 3).clone(),
        feature_map=filled.view(-1, 1, 1, 1).expand(-1, 2, 4, 4).clone(),
    )


def _pool(capacity=4, map_origins=(0, 0, 0)):
    return StatePool(capacity, torch.device("cpu"), map_origins)


def test_load_gathers_the_rows_of_each_task_in_the_order_asked_for():
    pool = _pool()
    pool.store(0, [10, 11], _state(3, 0.0), rows=[2, 0])
    pool.store(0, [12], _state(1, 50.0), rows=[0])
    state = pool.load(0, [12, 10, 11, 10])
    assert state.relations is None
    assert state.tokens[:, 0, 0].tolist() == [50.0, 2.0, 0.0, 2.0]
    assert state.feature_map[:, 0, 0, 0].tolist() == [50.0, 2.0, 0.0, 2.0]


@pytest.mark.parametrize(("map_origins", "found"), [((0, 0, 0), [5.0, 5.0, 5.0]), ((0, 1, 1), [5.0, 6.0, 6.0])])
def test_store_feature_map_is_kept_until_a_stage_has_deepened_it(map_origins, found):
    pool = _pool(map_origins=map_origins)
    assert pool.bytes_per_image == 0
    maps = []
    for boundary in range(3):
        pool.store(boundary, [1], _state(1, 5.0 + boundary), rows=[0])
        maps.append(pool.load(boundary, [1]).feature_map)
    assert [feature_map[0, 0, 0, 0] for feature_map in maps] == found
    assert pool.bytes_per_image == 4 * (3 * 5 * 3 + len(set(found)) * 2 * 4 * 4)


def test_store_beyond_capacity_raises_and_writes_nothing():
    pool = _pool(capacity=2)
    pool.store(0, [1], _state(1, 1.0), rows=[0])
    with pytest.raises(RuntimeError, match="no reuse state slots for 2 images; 1 are free"):
        pool.store(0, [2, 3], _state(2, 7.0), rows=[0, 1])
    assert len(pool) == 1
    pool.release([1, 99])
    pool.store(0, [2, 3], _state(2, 7.0), rows=[0, 1])
    assert len(pool) == 2


@pytest.mark.parametrize(("boundary", "task_id"), [(0, 2), (1, 1), (0, 3)])
def test_load_state_that_is_not_there_raises_naming_the_task(boundary, task_id):
    pool = _pool()
    pool.store(0, [1, 3], _state(2, 1.0), rows=[0, 1])
    pool.release([3])
    with pytest.raises(LookupError, match=f"task {task_id} holds no reuse state of stage {boundary}"):
        pool.load(boundary, [task_id])


def test_store_first_state_that_no_memory_holds_is_refused_with_the_numbers():
    pool, tokens = _pool(), torch.zeros(1, 1, 1).expand(1, 1 << 40, 1 << 14)
    with pytest.raises(StateMemoryError, match=r"max_inflight = 4 images: it takes 288230376151.7 MB or more"):
        pool.store(0, [1], ReuseState(tokens=tokens), rows=[0])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_load_feature_map_of_either_layout_comes_back_channels_last(layout):
    pool, feature_map = _pool(), torch.arange(2 * 3 * 4 * 4.0).view(2, 3, 4, 4)
    pool.store(0, [1, 2], ReuseState(feature_map=feature_map.contiguous(memory_format=layout)), rows=[0, 1])
    loaded = pool.load(0, [2, 1]).feature_map
    assert torch.equal(loaded, feature_map.flip(0))
    assert loaded.is_contiguous(memory_format=torch.channels_last)
