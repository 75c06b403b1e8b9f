"""A benchmark as Markdown tables."""

from fastnst.tables import table


def markdown(results: dict) -> str:
    """The results as Markdown tables. Their columns are the keys of the rows."""
    settings, host = results["settings"], results["machine"]
    where = host["gpu"] or f"{host['threads']} CPU threads ({host['cpu']})"
    titles = {
        "step": f"A training step: batch {settings['batch_size']}, {settings['size']} px, width {settings['width']}",
        "losses": "Relative differences of our losses from the textbook's on one batch",
        **{f"parts_{kind}": f"Parts of our step, {kind}, and the matrix product" for kind in ("float32", "bfloat16")},
        "decoding": f"Decoding to {settings['size']} px, on one core",
        "inference": "Inference, one square picture",
        "memory": "Memory of a training step, float32",
    }
    lines = ["# Benchmark", "", f"On {where}, torch {host['torch']}; medians of {settings['rounds']} rounds."]
    for key, title in titles.items():
        rows = results[key]
        lines += [
            "",
            f"## {title}",
            "",
            *table([name.replace("_", " ") for name in rows[0]], (row.values() for row in rows)),
        ]
    return "\n".join(lines) + "\n"
