"""The part of the page in which a painting becomes a style."""

import html
from collections.abc import Callable, Sequence
from typing import Any

from omegaconf import OmegaConf

from fastnst.shipped import CONFIGS
from fastnst.web.parts import told, upload
from fastnst.web.studio import Look, Studio
from fastnst.web.training import Progress, Trainings

EVERY = 3  # s, between two looks at a training


def describe(progress: Progress) -> str:
    """How a training fares, in HTML."""
    if progress.status == "none":
        return ""
    left = "" if progress.left is None else f", some {max(1, round(progress.left / 60))} min left"
    terms = ", ".join(
        f"{name} {progress.terms[name]:.3g}" for name in ("content", "style", "palette") if name in progress.terms
    )
    state = "is learning" if progress.status == "running" else "has stopped"
    return (
        f"<p><b>{html.escape(progress.name)}</b> {state}: step {progress.step} of {progress.steps}{left}</p>"
        f'<progress max="{progress.steps}" value="{progress.step}" style="width: 100%" aria-label="Steps done"></progress>'
        f"<p>{terms}</p><p>{html.escape(progress.message)}</p>"
    )


def training_tab(studio: Studio, trainings: Trainings, photograph, show_styles: Callable, shown: Sequence) -> None:
    """Adds it to the page that is being built.

    photograph: the page's. show_styles: gives the page's list of styles anew, to the components `shown`.
    """
    import gradio as gr
    import pandas as pd

    usual = OmegaConf.load(CONFIGS / "experiment" / "finetune.yaml").trainer.max_steps
    any_style = next(iter(studio.any_painting), None)

    @told
    def try_painting(painting, photograph=None):
        """What the net for any painting makes of one, on a photograph or else a sample."""
        if painting is None or any_style is None:
            return None
        return studio.preview(photograph or str(studio.sample), Look(any_style, painting))[1]

    @told
    def train(painting, name, steps):
        """Starts to train a style on a painting."""
        trainings.begin(name.strip(), studio.checked(painting, "Drop a painting first."), round(steps), [*studio.nets])

    @told
    def keep():
        """Stops the training, and makes a style of what it has learnt."""
        return trainings.keep().stem

    @told
    def cancel():
        """Ends the training, and takes away all of it, the painting too."""
        trainings.cancel()

    @told
    def resume():
        """Has a training that was stopped go on."""
        trainings.resume()

    def looked_at() -> Progress:
        """How the training fares; one that is done meanwhile is in the list then."""
        progress = trainings.progress()
        studio.add_trained(trainings.finished())
        return progress

    def training() -> dict:
        """How the training fares: status, step of steps, seconds left, losses."""
        return {key: value for key, value in vars(looked_at()).items() if key != "pictures"}

    def refresh(known: int) -> tuple:
        """Shows how the training fares. known: how many styles this visitor's page lists."""
        progress = looked_at()
        running, here = progress.status == "running", progress.status != "none"
        losses = pd.DataFrame(progress.losses, columns=["step", "loss"], dtype=float)
        changed = len(studio.styles) != known
        return (
            gr.update(visible=here), describe(progress), losses, progress.pictures, gr.update(visible=here and not running),
            gr.update(interactive=not here), gr.Timer(EVERY, active=running), len(studio.styles),
            *(show_styles() if changed else [gr.skip() for _ in shown]),
        )  # fmt: skip

    with gr.Accordion("Train here: a painting becomes a style", open=False, elem_id="train"):
        with gr.Row():
            with gr.Column():
                painting = upload("The painting", "learnt")
                name = gr.Textbox(label="Name of the style", placeholder="my_painting", max_length=40, elem_id="name")
                steps = gr.Slider(50, 2000, usual, step=50, label="Steps")
                begin = gr.Button("Make it a style", variant="primary", elem_id="begin")
            zero_shot = gr.Image(
                label="Without training", interactive=False, format="png", elem_id="zero_shot", buttons=["download"]
            )
        with gr.Column(visible=False, elem_id="training") as area:
            state = gr.HTML()
            with gr.Row():
                kept = gr.Button("Stop and keep")
                cancelled = gr.Button("Cancel", variant="stop")
                resumed = gr.Button("Resume", visible=False)
            pictures = gr.Gallery(
                label="Held-out photographs and their results", columns=2, height="auto", object_fit="cover",
                allow_preview=False, interactive=False, buttons=[], elem_classes="pairs",
            )  # fmt: skip
            plot = gr.LinePlot(x="step", y="loss", label="Loss", height=220, buttons=[])
    timer, known = gr.Timer(EVERY, active=False), gr.State(len(studio.styles))
    look: dict[str, Any] = {
        "fn": refresh, "inputs": known, "show_progress": "hidden", "api_visibility": "private",
        "outputs": [area, state, plot, pictures, resumed, begin, timer, known, *shown],
    }  # fmt: skip
    painting.change(try_painting, [painting, photograph], zero_shot, api_name="try_painting", concurrency_id="pictures")
    begin.click(train, [painting, name, steps], None, api_name="train").then(**look)
    kept.click(keep, None, gr.Textbox(label="Style", visible=False), api_name="keep").then(**look)
    cancelled.click(cancel, None, None, api_name="cancel").then(**look)
    resumed.click(resume, None, None, api_name="resume").then(**look)
    timer.tick(**look)
    gr.on(None, **look)
    gr.api(training, api_name="training")
