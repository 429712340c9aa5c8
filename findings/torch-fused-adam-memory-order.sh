#!/usr/bin/env bash
# torch 2.15.0 (CPU): Adam with fused=True takes weight, gradient and moments in the order of memory, whatever their
# strides. Where two of the three differ it moves other weights, without an error or a warning: after autograd.grad of a
# channels_last convolution, and after loading moments that were saved in another memory format. Without fused, or with
# foreach=True, the same Adam is right.
# One would think otherwise because all other operations mind strides, and because backward() hides it: that leaves
# gradients in the order of the weights, autograd.grad does not.
# What to do: copy gradients and moments with torch.empty_like(weight).copy_(...), or leave fused out.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.15.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import torch

LAST = torch.channels_last


def off(case: str, **how) -> float:
    """The largest error of a weight after two steps of 0.1 each, against an Adam on contiguous tensors in float64."""
    torch.manual_seed(0)
    start, gradients, ends = torch.randn(4, 3, 5, 5), torch.randn(2, 4, 3, 5, 5), []
    for usual in (True, False):
        weight = start.double() if usual else start.clone()
        weight = weight.requires_grad_()
        adam = torch.optim.Adam([weight], 0.1, **({"fused": False} if usual else how))
        for step, gradient in enumerate(gradients.to(weight.dtype)):
            turned = not usual and case == "gradient in channels_last"
            weight.grad = gradient.contiguous(memory_format=LAST) if turned else gradient
            adam.step()
            if not usual and case == "moments in channels_last" and step == 0:
                state = adam.state_dict()
                for name in ("exp_avg", "exp_avg_sq"):
                    state["state"][0][name] = state["state"][0][name].contiguous(memory_format=LAST)
                adam.load_state_dict(state)
        ends.append(weight.detach().double())
    return (ends[0] - ends[1]).abs().max().item()


print("torch", torch.__version__.partition("+")[0])
for case in ("all contiguous", "gradient in channels_last", "moments in channels_last"):
    errors = {name: off(case, **{name: True}) for name in ("fused", "foreach")} | {"neither": off(case, fused=False)}
    print(f"{case}:", ", ".join(f"{name} {error:.6f}" for name, error in errors.items()))
    assert max(errors["foreach"], errors["neither"]) < 1e-5
    assert errors["fused"] < 1e-5 if case == "all contiguous" else errors["fused"] > 0.05
PY
