"""Medians, spread and ratios, as tables."""

from statistics import median


def spread(values):
    """Half of the distance from the least to the greatest value, in percent of the median."""
    middle = median(values)
    return (max(values) - min(values)) / 2 / middle * 100 if middle else 0.0


def number(value):
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def ratios(found, figure, base):
    """Median over the repetitions of the ratio to `base` in the same repetition: `base` and the other
    ran next to each other."""
    of = {}
    for name, figures in found.items():
        pairs = zip(figures.get(figure, []), found.get(base, {}).get(figure, []), strict=False)
        pairs = [mine / theirs for mine, theirs in pairs if theirs]
        if pairs:
            of[name] = median(pairs)
    return of


def table(scenario, found):
    """One scenario as a table. The ratio is to NGINX, or to the first variation."""
    base = next(iter(scenario.variations), "nginx")
    judged = scenario.figures[0][0]
    to = ratios(found, judged, base)
    titles = [title for _, title in scenario.figures]
    lines = [f"\n### {scenario.name}: {scenario.what}\n",
             "| | " + " | ".join(titles) + f" | {titles[0]}, ratio to {base} |",
             "|---" + "|---:" * (len(titles) + 1) + "|"]
    for name, figures in found.items():
        cells = [
            f"{number(median(figures[figure]))} ±{spread(figures[figure]):.0f} %" if figures.get(figure) else "failed"
            for figure, _ in scenario.figures
        ]
        ratio = f"{to[name]:.2f}" if name in to else ""
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {ratio} |")
    return "\n".join(lines)


def closing(results):
    about = results["about"]
    return (
        f"\nMedians of {results['repetitions']} runs of {results['seconds']} s, ± half the range; the ratio is the median of the "
        f"ratios within each round. {about['cpu']}, {about['cores']} cores, Linux {about['kernel']}, "
        f"commit {about['commit']}."
    )
