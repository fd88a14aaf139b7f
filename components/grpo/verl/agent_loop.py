"""How verl asks for one answer: its own single turn, for any model with a chat template.

verl 0.9 picks a builder of tokens by the model's type, and that of Qwen models wants Qwen's `<|im_end|>`,
which DeepSeek-R1-Distill-Qwen has not (https://github.com/verl-project/verl/issues/7637). An answer of one
turn needs no more than the chat template, which verl's default builder applies.
"""

from typing import Any

from verl.experimental.agent_loop.agent_loop import AgentLoopOutput
from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop

from components.grpo.verl.reward import ANSWER_ID


class OneTurn(SingleTurnAgentLoop):
    """verl's single turn with the default token builder; answers carry their ids to the reward."""

    def __init__(self, *args: Any, hf_model_type: str | None = None, **options: Any) -> None:
        super().__init__(*args, hf_model_type=None, **options)

    async def run(self, sampling_params: dict[str, Any], **columns: Any) -> AgentLoopOutput:
        """Return the sampled answer to the prompt in `columns`."""
        output = await super().run(sampling_params, **columns)
        output.extra_fields[ANSWER_ID] = f"{columns['uid']}_{columns['session_id']}"
        return output
