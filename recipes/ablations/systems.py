"""The systems that the ablations compare: what each is trained from, in steps that can be interrupted."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.numpy import save_file

from dragoman import Translator
from dragoman.checkpoints.families import ADAPTERS, GROUP_MARK
from dragoman.checkpoints.module_files import combine
from dragoman.checkpoints.module_saving import Saving
from dragoman.errors import InvalidOption
from dragoman.training.config import TrainingConfig
from dragoman.training.running import Recipe, train

HERE = Path(__file__).parent
GROUPS = {1: ("de",), 2: ("es",)}
"""X-ALMA's language groups of the texts."""
STEPS = ("xalma-2-module", "xalma-3-pseudo-monolingual", "xalma-4-sft")
JUDGED = {"de": 3000}
"""Translations that the system of step 4 makes for step 5 to reject, in both directions together."""


MADE_UP: dict[str, dict[str, int]] = {
    "xalma-1-base": {"updates": 600, "vocabulary": 400},
    "xalma-2-module": {"updates": 10},
    "xalma-3-pseudo-monolingual": {"updates": 30},
    "xalma-4-sft": {"updates": 60, "evaluate_every": 60},
    "xalma-5-arpo": {"updates": 60},
}
"""What of the recipes is changed for made-up languages: with more, all systems learn them to 99 %."""


@dataclass(frozen=True)
class Work:
    """Where texts are read and systems are made."""

    texts: Path
    out: Path
    is_made_up: bool = False
    """Whether the texts are of made-up languages, which are learned sooner."""

    def config(self, recipe: str) -> TrainingConfig:
        """The settings of a recipe for these texts."""
        found = TrainingConfig.from_toml(HERE / f"{recipe}.toml")
        return replace(found, **MADE_UP[recipe]) if self.is_made_up else found


@dataclass(frozen=True)
class System:
    """One row of a comparison: `make` trains it, with a seed, and says where the model is."""

    comparison: str
    name: str
    make: Callable[[Work, int], Path]
    codes: tuple[str, ...]
    """Of the languages that are tested, both ways."""


class Silent:
    """Training speaks through its log alone."""

    def updated(self, update: int, ends: int, figures: Mapping[str, float]) -> None:
        pass

    def logged(self, row: Mapping[str, Any]) -> None:
        pass


def trained(work: Work, recipe: str, place: str, texts: Path | None = None, **changes: Any) -> Path:
    """The model of a recipe with some settings changed, in a folder of its own below `out`."""
    folder, config = work.out / place, work.config(recipe)
    shape = {**config.model, **changes.pop("model", {})}
    config = replace(config, model=shape, **changes)
    made_of = f"{config}\n{fingerprint(texts or work.texts)}\n"
    done = folder / "done"
    if done.exists():
        if done.read_text(encoding="utf-8") != made_of:
            raise InvalidOption(f"{folder} is of other settings or texts; give another OUT")
        return folder / "model"
    model = train(Recipe(config, recipe, texts or work.texts, folder), Silent(), say=lambda text: None)
    done.write_text(made_of, encoding="utf-8")
    return model


def fingerprint(texts: Path) -> str:
    """Of all files of a folder of texts."""
    found = sha256()
    for path in sorted(path for path in texts.rglob("*") if path.is_file() and path.name != "done"):
        found.update(f"{path.relative_to(texts)} ".encode() + path.read_bytes())
    return found.hexdigest()


# ---- experts ----


def translation(**shape: Any) -> Callable[[Work, int], Path]:
    """An NLLB of some shape."""

    def make(work: Work, seed: int) -> Path:
        name = "-".join(f"{key}={value}" for key, value in shape.items()) or "moe"
        return trained(work, "moe", f"nllb/{name}/{seed}", seed=seed, model=shape)

    return make


# A token visits two experts of 128 in every second layer, and a block of 128 in the others: as much as one of
# 192 in each.
DENSE = {"encoder_sparse_step": 0, "decoder_sparse_step": 0, "encoder_ffn_dim": 192, "decoder_ffn_dim": 192}
EXPERTS = [
    System("experts", "dense", translation(**DENSE), ("de", "nl")),
    System("experts", "moe", translation(), ("de", "nl")),
    System("experts", "moe-eom", translation(moe_token_dropout=0.2), ("de", "nl")),
]


# ---- language modules ----


def base(work: Work) -> Path:
    """Step 1, the same for all seeds."""
    return trained(work, "xalma-1-base", "xalma/1-base")


def steps(work: Work, place: str, seed: int, **changes: Any) -> Path:
    """Steps 2 to 4 on the base. changes: of all three; `times`: how many times as many updates."""
    times, model = changes.pop("times", 1), base(work)
    for step in STEPS:
        updates = work.config(step).updates * times
        settings = {"seed": seed, "start": str(model), "updates": updates, **changes}
        model = trained(work, step, f"{place}/{step}/{seed}", **settings)
    return model


def module(work: Work, group: int, seed: int) -> Path:
    """The module of one group."""
    return steps(work, f"xalma/group-{group}", seed, group=group, languages=languages(GROUPS[group]))


def languages(codes: Sequence[str]) -> dict[str, str]:
    names = {"de": "deu_Latn", "es": "spa_Latn"}
    return {code: names[code] for code in codes}


def group_modules(work: Work, seed: int) -> Path:
    """A base with a module for each group."""
    return joined(work, f"xalma/groups/{seed}", {group: module(work, group, seed) for group in GROUPS})


def shared_module(work: Work, seed: int) -> Path:
    """A base with one module for all languages, as large as those of the groups together."""
    lora = work.config(STEPS[0]).lora
    wide = replace(lora, rank=lora.rank * len(GROUPS))
    every = languages([code for codes in GROUPS.values() for code in codes])
    found = steps(work, "xalma/shared", seed, times=len(GROUPS), lora=wide, languages=every)
    return joined(work, f"xalma/shared-joined/{seed}", dict.fromkeys(GROUPS, found))


def all_weights(work: Work, seed: int) -> Path:
    """No module: the base itself learns all languages."""
    every = languages([code for codes in GROUPS.values() for code in codes])
    settings = {"train": "all", "group": 0, "prompts": "chat", "lora": TrainingConfig().lora}
    return steps(work, "xalma/all", seed, times=len(GROUPS), languages=every, **settings)


def joined(work: Work, place: str, modules: Mapping[int, Path]) -> Path:
    """A combined checkpoint of the base and modules, each of which is marked with its group."""
    folder = work.out / place
    marked = {}
    for group, found in modules.items():
        marked[group] = folder / f"module-{group}"
        marked[group].mkdir(parents=True, exist_ok=True)
        for path in found.iterdir():
            if path.name != ADAPTERS[0]:
                (marked[group] / path.name).write_bytes(path.read_bytes())
        with safe_open(found / ADAPTERS[0], "numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        save_file(tensors, marked[group] / ADAPTERS[0], {GROUP_MARK: str(group)})
    combine(base(work), marked, folder / "model", Saving(overwrite=True))
    return folder / "model"


MODULES = [
    System("modules", "groups", group_modules, ("de", "es")),
    System("modules", "shared", shared_module, ("de", "es")),
    System("modules", "all", all_weights, ("de", "es")),
]


# ---- preferences ----


def sft(work: Work, seed: int) -> Path:
    return module(work, 1, seed)


def judged(work: Work, seed: int) -> Path:
    """Texts for step 5: references as chosen, what the system of step 4 makes of them as rejected."""
    folder = work.out / f"xalma/judged/{seed}"
    if (folder / "done").exists():
        return folder
    for name in ("preference", "test", "dev"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    translator = Translator.load(sft(work, seed), device="cpu", precision="fp32")
    for code, count in JUDGED.items():
        for name in ("test", "dev"):
            (folder / name / f"{code}-en.tsv").write_bytes(
                (work.texts / name / f"{code}-en.tsv").read_bytes()
            )
        lines = (work.texts / "bitext" / f"{code}-en.tsv").read_text(encoding="utf-8").splitlines()
        pairs = [line.split("\t")[:2] for line in lines[:count]]
        rows = list(preferences(translator, pairs[: count // 2], code, "en"))
        rows += preferences(translator, [pair[::-1] for pair in pairs[count // 2 :]], "en", code)
        text = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
        (folder / "preference" / f"{code}-en.jsonl").write_text(text, encoding="utf-8")
    (folder / "done").touch()
    return folder


def preferences(
    translator: Translator, pairs: Sequence[Sequence[str]], source: str, target: str
) -> Iterator[dict[str, str]]:
    """X-ALMA's rows. pairs: text and reference; where the translation is the reference there is none."""
    texts = translator.translate(
        [pair[0] for pair in pairs], source=source, target=target, beams=1, max_new_tokens=40
    )
    for (text, reference), translation in zip(pairs, texts, strict=True):
        if translation and translation != reference:
            yield {
                "source": text,
                "chosen": reference,
                "reject": translation,
                "directions": f"{source}-{target}",
            }


def ranked(objective: str, **constants: float) -> Callable[[Work, int], Path]:
    """Step 5 by some objective. constants: of its loss."""

    def make(work: Work, seed: int) -> Path:
        options = replace(work.config("xalma-5-arpo").preference, **constants)
        settings = {"seed": seed, "start": str(sft(work, seed)), "objective": objective}
        name = "-".join((objective, *(f"{key}={value}" for key, value in constants.items())))
        place = f"xalma/5-{name}/{seed}"
        return trained(work, "xalma-5-arpo", place, judged(work, seed), preference=options, **settings)

    return make


PREFERENCES = [
    System("preferences", "sft", sft, GROUPS[1]),
    # With a steepness of zero the ranking says nothing: what is left is the likelihood of what was chosen.
    System("preferences", "chosen-alone", ranked("cpo", beta=0.0), GROUPS[1]),
    *(System("preferences", name, ranked(name), GROUPS[1]) for name in ("cpo", "arpo", "arpo-repository")),
]
EVERY = (*MODULES, *PREFERENCES, *EXPERTS)
