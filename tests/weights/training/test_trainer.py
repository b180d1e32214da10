from dataclasses import replace

import pytest
import torch
from cascades import TINY, randomised
from images import two_colour_images

from weights.data import LabelledImages
from weights.preprocessing import Preprocessing
from weights.training.recipe import RECIPES, Recipe
from weights.training.trainer import Trainer, exit_loss, set_drop_path, share_right

CONFIG = replace(TINY, num_classes=2)
RECIPE = Recipe(epochs=1, batch_size=8)


def _trainer(recipe: Recipe) -> Trainer:
    images, labels = two_colour_images(32, side=28)
    data = LabelledImages(images, labels, ("red", "blue"))
    return Trainer(randomised(CONFIG), data, Preprocessing(resize_px=28, crop_px=28), recipe, torch.device("cpu"))


def test_exit_loss_plain_is_the_sum_of_cross_entropies() -> None:
    logits = [torch.randn(4, 3), torch.randn(4, 3)]
    labels = torch.tensor([0, 1, 2, 0])
    targets = torch.nn.functional.one_hot(labels, 3).float()
    expected = sum(torch.nn.functional.cross_entropy(exit_, labels, label_smoothing=0.1) for exit_ in logits)
    torch.testing.assert_close(exit_loss(logits, targets, RECIPE), expected)
    doubled = exit_loss(logits, targets, replace(RECIPE, exit_weights=(2.0, 0.0)))
    torch.testing.assert_close(doubled, 2 * torch.nn.functional.cross_entropy(logits[0], labels, label_smoothing=0.1))


def test_share_right_mixed_images_count_for_the_class_they_have_most_of() -> None:
    targets = torch.tensor([[0.3, 0.7, 0.0], [0.9, 0.0, 0.1]])
    most, least = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 1.0]]), torch.tensor([[2.0, 0.0, 1.0], [3.0, 0.0, 1.0]])
    assert share_right([most, least], targets).tolist() == [1.0, 0.5]


def test_exit_loss_distillation_does_not_train_the_teacher() -> None:
    student = torch.zeros(1, 2, requires_grad=True)
    teacher = torch.tensor([[3.0, -3.0]], requires_grad=True)
    targets = torch.tensor([[0.5, 0.5]])
    plain = torch.autograd.grad(exit_loss([student, teacher], targets, RECIPE), [student, teacher])
    distilled = torch.autograd.grad(
        exit_loss([student, teacher], targets, replace(RECIPE, distillation=1.0)), [student, teacher]
    )
    assert torch.equal(plain[1], distilled[1])
    assert distilled[0][0, 0] < plain[0][0, 0]  # pulled towards what the teacher prefers


@pytest.mark.parametrize("name", RECIPES)
def test_trainer_every_recipe_steps_and_repeats_itself(name: str) -> None:
    recipe = replace(RECIPES[name], epochs=1, growth=(), batch_size=8)
    first, second = (list(_trainer(recipe).run()) for _ in range(2))
    assert first == second
    assert len(first) == 4


def test_trainer_growth_trains_the_first_stages_first_at_the_peak_rate() -> None:
    recipe = replace(RECIPE, epochs=4, growth=(1, 0, 1), optimizer="muon")
    trainer = _trainer(recipe)
    before = {key: value.clone() for key, value in trainer.cascade.state_dict().items()}
    still, exits, rates = [], [], []
    for report in trainer.run():
        now = trainer.cascade.state_dict()
        still.append([torch.equal(now[f"stages.{k}.head.weight"], before[f"stages.{k}.head.weight"]) for k in range(4)])
        exits.append(len(report.exit_accuracy))
        rates.append(trainer.optimizers[0].param_groups[0]["lr"])
    assert still[3] == [False, True, True, True]
    assert still[7] == [False, False, False, True]
    assert still[8] == [False] * 4
    assert exits == [1] * 4 + [3] * 4 + [4] * 8
    assert set(rates[:9]) == {recipe.learning_rate}
    assert rates[15] < rates[12] < rates[10] < recipe.learning_rate


def test_trainer_growth_beyond_the_stages_is_refused() -> None:
    with pytest.raises(ValueError, match=r"growth \(1, 0, 1, 1\) is for a cascade of more stages than 4"):
        _trainer(replace(RECIPE, epochs=5, growth=(1, 0, 1, 1)))


def test_trainer_averaged_weights_lag_behind_the_trained_ones() -> None:
    trainer = _trainer(RECIPE)
    before = trainer.averaged_cascade.stages[0].head.weight.clone()
    for _ in trainer.run():
        pass
    trained, averaged = trainer.cascade.stages[0].head.weight, trainer.averaged_cascade.stages[0].head.weight
    assert 0 < (averaged - before).abs().sum() < (trained - before).abs().sum()


def test_set_drop_path_rises_over_the_blocks_and_acts_in_training_only() -> None:
    cascade = randomised(CONFIG)
    set_drop_path(cascade, 0.5)
    assert [[block.drop_path for block in stage.blocks] for stage in cascade.stages] == [[0.0, 0.5]] * 4
    images = torch.randn(16, 3, 28, 28)
    assert torch.equal(cascade(images)[0], cascade(images)[0])
    block, x = cascade.stages[0].blocks[1].train(), torch.randn(64, 5, 12)
    attended = block.attn(block.norm1(x)).tokens_BND
    dropped = block._drop(attended)
    kept = dropped.abs().sum(dim=(1, 2)) > 0
    assert 0.2 < kept.float().mean() < 0.8
    torch.testing.assert_close(dropped[kept], 2 * attended[kept])
