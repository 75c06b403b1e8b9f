"""A benchmark as Markdown tables."""


def markdown(results: dict) -> str:
    """The results as Markdown tables."""
    settings, host = results["settings"], results["machine"]
    where = host["gpu"] or f"{host['threads']} CPU threads ({host['cpu']})"
    lines = [
        "# Benchmark",
        "",
        f"On {where}, torch {host['torch']}; medians of {settings['rounds']} rounds.",
        "",
        f"## A training step: batch {settings['batch_size']}, {settings['size']} px, width {settings['width']}",
        "",
        *rows(
            ("step", "seconds", "images / s", "times the textbook's speed"),
            (
                (n, f"{s['seconds']:.3g}", f"{s['images_per_second']:.3g}", f"{s['ratio']:.2f}")
                for n, s in results["step"].items()
            ),
        ),
        "",
        "Relative differences of our losses from the textbook's on one batch:",
        "",
        *rows(
            ("precision", *results["losses"]["float32"]),
            ((kind, *(f"{value:.1e}" for value in terms.values())) for kind, terms in results["losses"].items()),
        ),
    ]
    for dtype, parts in results["parts"].items():
        lines += [
            "",
            f"## Parts of our step, {dtype}",
            "",
            f"Matrix-product peak {parts['peak_gflops']:.0f} GFLOP/s; {parts['seconds']:.3g} s without the data.",
            "",
            *rows(
                ("part", "seconds", "share", "GFLOP", "GFLOP / s", "of the peak"),
                (
                    (
                        p["part"],
                        f"{p['seconds']:.3g}",
                        "" if p["share"] is None else f"{p['share']:.1%}",
                        f"{p['gflop']:.3g}" if p["gflop"] else "",
                        f"{p['gflops']:.0f}" if p["gflop"] else "",
                        f"{p['fraction_of_peak']:.0%}" if p["gflop"] else "",
                    )
                    for p in parts["parts"]
                ),
            ),
        ]
    lines += [
        "",
        f"## Decoding to {settings['size']} px, on one core",
        "",
        *rows(
            ("what", "images / s", "times torchvision's"),
            ((n, f"{d['images_per_second']:.0f}", f"{d['ratio']:.2f}") for n, d in results["decoding"].items()),
        ),
        "",
        "## Inference, one square picture",
        "",
        *rows(
            ("px", *(f"{name} (s)" for name in results["inference"][0]["seconds"]), "ours, times the textbook's"),
            (
                (i["size"], *(f"{s:.3g}" for s in i["seconds"].values()), f"{i['ratio']['ours']:.2f}")
                for i in results["inference"]
            ),
        ),
        "",
        "## Memory of a training step, float32",
        "",
        *rows(
            ("batch", "px", "before (MB)", "peak (MB)"),
            (("not told" if value is None else value for value in m.values()) for m in results["memory"]),
        ),
    ]
    return "\n".join(lines) + "\n"


def rows(head: tuple, body) -> list[str]:
    return [f"| {' | '.join(map(str, row))} |" for row in (head, ("---",) * len(head), *body)]
