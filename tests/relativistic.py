"""A game of a reader's own, whole: alikit --recipes tests/relativistic.py train relativistic --data folder:PATH"""

from dataclasses import replace

from torch.nn.functional import softplus

from alikit import ALI, RECIPES, register


class RelativisticALI(ALI):
    """ALI in which D judges by how much q's pair looks more real than p's (Jolicoeur-Martineau 2018)."""

    def objective(self, q_logits, p_logits):
        lead = q_logits - p_logits
        return {"discriminator": softplus(-lead).mean(), "generator": softplus(lead).mean()}


register("relativistic", replace(RECIPES["cifar10-small"], summary="relativistic ALI", game=RelativisticALI))
