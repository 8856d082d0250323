"""The server's policy for the slot at which a device pulls the fresh model: an LSTM, REINFORCE.

FedASMU (AAAI 2024), choice of the time slot; Williams, Simple Statistical Gradient-Following
Algorithms for Connectionist Reinforcement Learning, 1992. After each local epoch l = 1..L-1 the
policy decides whether to ask now; the first yes is the slot. It supplies a device's first slot,
afterwards the device's own table (`hocket.core.slots`) moves it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hocket.core.ranges import at_least_one, not_negative, positive, share
from hocket.core.strategy import Memory
from hocket.errors import CorruptState, InvalidUpdate, NotFinite

KIND = "learned"


class SlotPolicy(nn.Module):
    """P(s_l = 1 | s_1..l-1): LSTM over [s_{l-1}, l / L], then a linear layer.

    Every weight and the baseline are in `state_dict()`. Hidden size from a sibling work of the
    same authors; learning rate and clip are ours.
    """

    baseline: Tensor  # running mean of rewards, float64 scalar

    def __init__(
        self,
        seed: int,
        *,
        hidden: int = 32,
        learning_rate: float = 0.5,
        kappa: float = 0.85,  # memory of the baseline
        epsilon: float = 0.1,  # share of proposals drawn uniformly
        reward_clip: float = 1.0,  # so that one lying device cannot wreck the policy
    ) -> None:
        super().__init__()
        at_least_one("slot_policy", "hidden", hidden)
        not_negative("slot_policy", "learning_rate", learning_rate)
        share("slot_policy", "kappa", kappa)
        share("slot_policy", "epsilon", epsilon)
        positive("slot_policy", "reward_clip", reward_clip)
        self.learning_rate, self.kappa, self.epsilon = learning_rate, kappa, epsilon
        self.reward_clip, self.hidden = reward_clip, hidden
        # By way of "meta": torch's own initialisation draws from the process-wide generator.
        self.cell = nn.LSTMCell(2, hidden, device="meta").to_empty(device="cpu")
        self.head = nn.Linear(hidden, 1, device="meta").to_empty(device="cpu")
        self.register_buffer("baseline", torch.zeros((), dtype=torch.float64))
        generator = torch.Generator().manual_seed(seed)
        bound = 1 / math.sqrt(hidden)
        for weights in self.parameters():
            nn.init.uniform_(weights, -bound, bound, generator=generator)

    @torch.no_grad()
    def propose(self, generator: torch.Generator, epochs: int) -> int:
        """A slot in 1..epochs-1, or 0 (no slot) when there is no epoch left to use it in.

        With probability `epsilon` uniform, else sampled decision by decision; a sequence without
        a yes falls back to the middle, ceil(epochs / 2).
        """
        if epochs < 2:
            return 0
        if _uniform(generator) < self.epsilon:
            return 1 + int(_uniform(generator) * (epochs - 1))
        logits = self._logits(epochs - 1, epochs)
        for slot, yes in enumerate(torch.sigmoid(logits).tolist(), start=1):
            if _uniform(generator) < yes:
                return slot
        return math.ceil(epochs / 2)

    def log_probability(self, slot: int, epochs: int) -> Tensor:
        """Log-probability (a scalar) that the sampled decisions lead to `slot`, epsilon aside.

        That of no, ..., no, yes; for the middle slot also that of no to the end, since what falls
        back there must not be learned as if it had been a yes.
        """
        middle = math.ceil(epochs / 2)
        logits = self._logits(epochs - 1 if slot == middle else slot, epochs)
        no, yes = nn.functional.logsigmoid(-logits), nn.functional.logsigmoid(logits)
        chosen = no[: slot - 1].sum() + yes[slot - 1]
        return torch.logaddexp(chosen, no.sum()) if slot == middle else chosen

    def reinforce(self, slot: int, epochs: int, reward: float) -> None:
        """One REINFORCE step: theta <- theta + eta grad log P(slot) (R - b).

        A slot that was explored counts as if sampled. b is the baseline before this reward, so
        R = b changes nothing; then b <- kappa b + (1 - kappa) R. Raises NotFinite for a reward
        that is NaN or infinite and InvalidUpdate for a slot outside 1..epochs-1; either leaves
        the policy as it was.
        """
        if not math.isfinite(reward):
            raise NotFinite(f"the merge's reward is {reward}; discard the update")
        if not 1 <= slot <= epochs - 1:
            raise InvalidUpdate(f"slot {slot} is outside 1..{epochs - 1}; discard the update")
        reward = max(-self.reward_clip, min(self.reward_clip, reward))
        advantage = reward - self.baseline.item()
        weights = list(self.parameters())
        slopes = torch.autograd.grad(self.log_probability(slot, epochs), weights)
        with torch.no_grad():
            for weight, slope in zip(weights, slopes, strict=True):
                weight.add_(slope, alpha=self.learning_rate * advantage)
            self.baseline.mul_(self.kappa).add_((1 - self.kappa) * reward)

    def keep(self) -> Memory[Tensor]:
        """A copy of every weight and of the baseline."""
        tensors = {name: value.detach().clone() for name, value in self.state_dict().items()}
        return Memory({"kind": KIND}, tensors)

    def recall(self, kept: Memory[Tensor]) -> None:
        """Take them back. Raises CorruptState, and stays as it was, for anything else."""
        own = self.state_dict()
        described = {name: (value.shape, value.dtype) for name, value in own.items()}
        given = {name: (value.shape, value.dtype) for name, value in kept.tensors.items()}
        if kept.facts != {"kind": KIND} or given != described:
            raise CorruptState(
                f"what is stored of the slot policy ({kept.facts.get('kind', 'nothing')}) is not "
                f"that of an LSTM of {self.hidden} cells: restore `kind` of [refresh] in the task "
                "file, or begin anew in another folder"
            )
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(kept.tensors[name])

    def _logits(self, steps: int, epochs: int) -> Tensor:
        """Logits of yes at l = 1..steps, all earlier decisions being no; shape (steps,)."""
        state: tuple[Tensor, Tensor] | None = None
        outputs = []
        for step in range(1, steps + 1):
            state = self.cell(torch.tensor([0.0, step / epochs]), state)
            outputs.append(state[0])
        logits: Tensor = self.head(torch.stack(outputs)).squeeze(1)
        return logits


def _uniform(generator: torch.Generator) -> float:
    return torch.rand((), generator=generator).item()
