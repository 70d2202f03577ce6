"""The roofline against steps that docs/speed.md has: fitted to two of one model, it predicts the others."""

from benchmarks import report, rounded, table
from benchmarks.scale.costs import MODELS, Processor, distinct, hit_rate, read_again, skew

SMALL = "NLLB-600M"
MEASURED = (
    ("int8", SMALL, 4, 0.0132),
    ("int8", SMALL, 64, 0.0521),
    ("int8", "NLLB-MoE, 32 experts", 4, 0.0154),
    ("int8", "NLLB-MoE, 32 experts", 64, 0.0636),
    ("fp32", SMALL, 4, 0.0267),
    ("fp32", SMALL, 64, 0.146),
    ("fp32", "NLLB-MoE, 32 experts", 4, 0.0477),
    ("fp32", "NLLB-MoE, 32 experts", 64, 0.185),
    ("int4", "Llama-2-13B, 8 layers", 1, 0.0376),
    ("int4", "Llama-2-13B, 8 layers", 5, 0.0423),
)
"""Precision, model, rows, seconds of a step, with two threads."""


def processors() -> dict[str, Processor]:
    """Two threads of the measured machine by precision; int4 computes as int8 does."""
    found = {}
    for precision in ("int8", "fp32"):
        few, many = (
            (rows, seconds) for kind, name, rows, seconds in MEASURED if (kind, name) == (precision, SMALL)
        )
        found[precision] = Processor.fitted(MODELS[SMALL], precision, few, many)
    return found | {"int4": found["int8"]}


def main() -> None:
    fitted = processors()
    rows = []
    for precision, name, count, seconds in MEASURED:
        model, predicted = MODELS[name], fitted[precision].step(MODELS[name], count, precision)
        rows.append(
            {
                "model": name,
                "precision": precision,
                "rows": count,
                "MB": model.step_bytes(count, precision) / 1e6,
                "GOP": model.step_operations(count) / 1e9,
                "ms": seconds * 1e3,
                "predicted": predicted * 1e3,
                "off": predicted / seconds - 1,
                "fitted": "yes" if name == SMALL else "",
            }
        )
    print(table(list(rows[0]), [list(row.values()) for row in rows]))
    speeds = [
        {
            "model": name,
            "precision": precision,
            "GB": MODELS[name].weights() * {"int8": 1.0, "int4": 0.5625}[precision] / 1e9,
            "sentences/s": 1 / fitted[precision].sentence(MODELS[name], precision, 32, beams, 32),
        }
        for name, precision, beams in (
            (SMALL, "int8", 4),
            ("NLLB-3.3B", "int8", 4),
            ("NLLB-MoE 54B", "int4", 4),
            ("X-ALMA", "int4", 5),
        )
    ]
    print("\n" + table(list(speeds[0]), [list(row.values()) for row in speeds]))
    experts = [
        {
            "router": name,
            "slots": slots,
            "hit rate": hit_rate(shares, slots),
            "needed": distinct(shares, tokens),
            "read": read_again(shares, slots, tokens),
            "tokens": tokens,
        }
        for name, shares in (("even", skew(128, 0)), ("1/rank", skew(128, 1)))
        for slots in (32, 64, 96)
        for tokens in (64, 2048)
    ]
    print("\n" + table(list(experts[0]), [list(row.values()) for row in experts]))
    report(
        {
            "benchmark": "scale shapes",
            "steps": rounded(rows),
            "speeds": rounded(speeds),
            "experts": rounded(experts),
        }
    )
