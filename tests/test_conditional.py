"""Conditional games: whose embeddings y has, what depends on it, and which y is refused."""

from dataclasses import replace

import pytest
import torch
from games import A, N, Z, assert_same, batch, conditional_ali, differ

from alikit.data import Dataset
from alikit.errors import AlikitError
from alikit.recipes import RECIPES


def test_the_papers_networks_are_conditioned_where_the_paper_says():
    """Appendix and section 5: 256 numbers of y beside 512 features, beside 256 of z, beside 512 + 1024 of D's. First
    weights of an embedding are not the paper's small ones."""
    model = RECIPES["celeba-conditional"].build((3, 64, 64), attributes=40)
    encoder, decoder, discriminator = model.encoder.net, model.decoder.net, model.discriminator
    embeddings = encoder.embedding, decoder.embedding, discriminator.towers[2]
    assert len({id(embedding.weight) for embedding in embeddings}) == 3
    for embedding in embeddings:
        assert (embedding.in_features, embedding.out_features) == (40, 256) and embedding.weight.std() > 0.05
    assert encoder.body(torch.rand(2, 3, 64, 64)).shape == (2, 512, 1, 1)
    assert encoder.head[1][0].weight.shape == (512, 512 + 256, 1, 1)
    assert decoder.head[1][0].weight.shape == (256 + 256, 512, 4, 4)
    assert decoder.head[1][0].weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert discriminator.joint[2].weight.shape == (2048, 512 + 1024 + 256, 1, 1)


def test_what_is_drawn_depends_on_y():
    """One y for all is that y for each. A reconstruction is encoded with y and decoded with `to`; a path goes from one
    y to the other."""
    model, (x, y), z = conditional_ali(), batch("conditional"), torch.randn(N, Z)
    all_ = y[:1].expand(N, -1)
    assert_same(model.decode(z, y=y[0]), model.decode(z, y=all_))
    assert_same(model.encode(x, False, y[0].bool()), model.encode(x, False, all_))
    ends = (y[0], y[1]), (all_, y[1].expand(N, A))
    assert_same(*(model.interpolate(x, x.flip(0), 4, y_from=a, y_to=b) for a, b in ends))
    other = model.reconstruct(x, sample=False, y=y, to=1 - y)
    assert_same(other, model.decode(model.encode(x, sample=False, y=y), y=1 - y))
    assert differ(other, model.reconstruct(x, sample=False, y=y))
    path = model.interpolate(x[:3], x[3:6], steps=4, y_from=y[:3], y_to=y[3:6])
    ends = model.reconstruct(x[:6], sample=False, y=y[:6]).split(3)
    torch.testing.assert_close((path[:, 0], path[:, -1]), ends)
    model.prior = lambda n: torch.zeros(n, Z)
    assert differ(model.sample(N, y), model.sample(N, 1 - y))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (None, "needs y, 5 numbers for each example"),
        (torch.zeros(N, A + 1), "y is 10 x 6, and this model takes 5 numbers for each of 10 examples"),
        (torch.zeros(N - 1, A), "y is 9 x 5"),
        (torch.zeros(A - 1), "y is 4, and"),
        (torch.tensor(1.0), "y is a single number"),
        (["Eyeglasses"], "y is a tensor of 0 and 1"),
        *((torch.full((N, A), number), "y goes from 0 .no. to 1 .yes.") for number in (2.0, -1.0, float("nan"))),
    ],
)
def test_another_y_is_refused_in_one_line(wrong, message):
    model, (x, y) = conditional_ali(), batch("conditional")
    for use in (lambda: model.sample(N, wrong), lambda: model.encode(x, y=wrong)):
        with pytest.raises(AlikitError, match=message):
            use()
    with pytest.raises(AlikitError, match="y is a keyword argument"):
        model.encode(x, y)


def test_samples_follow_y():
    """Of points on the right where the first attribute is there, above where the second is."""
    y = torch.randint(2, (4000, 2), dtype=torch.uint8)
    data = Dataset("sides", 2.0 * y - 1 + 0.1 * torch.randn(4000, 2), y, ("right", "above"))
    recipe = replace(RECIPES["mixture-ali"], embedding=8, batch_size=100, steps=150, ema=0.97)
    with pytest.raises(AlikitError, match="without conditions: leave it out"):
        recipe.trainer(recipe.build((2,), attributes=2), data)
    trainer = replace(recipe, precise_bn=False).trainer(recipe.build((2,), attributes=2), data)
    for trainer.step in range(39, 42):  # into the second epoch
        x, y = trainer._batch()
        assert torch.equal(x > 0, y > 0) and y.dtype == torch.float32, "each example comes with its own y"
    trainer.step = 0
    trainer.run(recipe.steps)
    y = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]]).repeat_interleave(100, 0)
    assert ((trainer.result.sample(len(y), y) > 0) == (y > 0)).float().mean() > 0.95
