"""Step-DPO of a trained student with TRL, on the rows of `cordctl export RUN --format step-dpo` in the folder `steps`:

    python deploy/sft/step_dpo.py --config deploy/sft/tiny-step-dpo.yaml \
        --model_name_or_path student --dataset_name steps --output_dir preferring

It is `trl dpo`, but for one thing. TRL appends the end token to both texts of a row, also to a step, after which
nothing should end. So the trainer gets a tokenizer without an end token, and the folder of the result the whole one.
"""

from __future__ import annotations

from typing import Any

from datasets import load_dataset
from transformers import AutoConfig, AutoTokenizer, GenerationConfig
from trl import DPOConfig, DPOTrainer, ModelConfig, ScriptArguments, TrlParser


def main() -> None:
    """Trains, and saves the student with the tokenizer and the end tokens that it had before."""
    script, settings, model = TrlParser((ScriptArguments, DPOConfig, ModelConfig)).parse_args_and_config()
    name = model.model_name_or_path
    settings.model_init_kwargs = {"dtype": model.dtype}
    endless: Any = AutoTokenizer.from_pretrained(name)
    endless.pad_token, endless.eos_token = endless.pad_token or endless.eos_token, ""
    rows = load_dataset(script.dataset_name, split=script.dataset_train_split)
    trainer = DPOTrainer(name, args=settings, train_dataset=rows, processing_class=endless)
    trainer.train()
    trainer.save_model(settings.output_dir)
    # The trainer has taken the end token out of these, too.
    for part in (AutoTokenizer, AutoConfig, GenerationConfig):
        part.from_pretrained(name).save_pretrained(settings.output_dir)


if __name__ == "__main__":
    main()
