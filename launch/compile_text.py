"""The figures of `launch.compile` as lines to read."""

from typing import Any


def item(item: dict[str, Any]) -> str:
    """The lines of one compiled step."""
    per_chip = item["batch_size"] / item["chips"]
    lines = [
        f"{item['config']} on {item['topology']}: {item['chips']} x {item['device_kind']}, "
        f"batch {item['batch_size']} ({per_chip:g} a chip)",
        "  settings    " + ", ".join(f"{name}={value}" for name, value in item["settings"].items()),
        _memory(item),
        f"  arithmetic  {item['tflop_per_chip']:.4g} TFLOP a step and chip, "
        f"{item['tflop_executed_per_chip']:.4g} with what is computed again",
    ]
    if item["fits"] is not False:
        kinds = [
            f"{kind} {gib:.3g} GiB in {item['collective_count'][kind]}" for kind, gib in item["collective_gib"].items()
        ]
        lines.append("  network     each chip sends " + (", ".join(kinds) or "nothing"))
        lines.append(_roofline(item))
    lines.append(f"  compiled in {item['compile_seconds']:.0f} s, lowered in {item['lower_seconds']:.0f} s")
    return "\n".join(lines)


def best(item: dict[str, Any] | None) -> str:
    """The line of a sweep's best step."""
    if item is None:
        return "nothing fits"
    settings = ", ".join(f"{name}={value}" for name, value in item["settings"].items())
    return (
        f"best: batch {item['batch_size']}, {settings}: at most {item['examples_per_s_bound']:.0f} examples/s, "
        f"MFU at most {item['mfu_bound']:.0%}"
    )


def _memory(item: dict[str, Any]) -> str:
    limit = item["hbm_limit_gib"]
    if item["fits"] is False:
        lines = [f"  memory      DOES NOT FIT: needs {item['hbm_peak_gib']:.2f} of {limit:.2f} GiB a chip"]
        for tensor in item.get("largest", []):
            lines.append(f"    {tensor['gib']:8.3f} GiB  {tensor['shape']}  {tensor['operator']}")
        return "\n".join(lines)
    of_limit = "" if limit is None else f" of {limit:.2f}: fits"
    return (
        f"  memory      arguments {item['hbm_arguments_gib']:.2f}, temporaries {item['hbm_temporaries_gib']:.2f}, "
        f"peak {item['hbm_peak_gib']:.2f}{of_limit} (GiB a chip)"
    )


def _roofline(item: dict[str, Any]) -> str:
    if item["roofline_step_ms"] is None:
        return f"  roofline    no published figures of {item['device_kind']}"
    return (
        f"  roofline    arithmetic {item['compute_ms']:.3g} ms, memory {item['memory_ms']:.3g} ms, "
        f"network {item['network_ms']:.3g} ms: a step takes at least {item['roofline_step_ms']:.3g} ms "
        f"({item['limit']}), MFU at most {item['mfu_bound']:.0%}, {item['mfu_without_overlap']:.0%} if nothing overlaps"
    )
