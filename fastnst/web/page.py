"""The page: drop a photograph, choose a style, compare, download. Each of its actions is an endpoint, too."""

import importlib.util
from collections.abc import Callable
from inspect import Signature, signature
from typing import Any

from fastnst.inference.stylizer import STYLE_SIZES, Controls
from fastnst.models.dials import MOST_WEIGHT
from fastnst.shipped import ARTWORKS, PAINTINGS
from fastnst.web.parts import VISITORS, brush, by_path, told, upload
from fastnst.web.studio import PREVIEW, TRAINED, Look, Studio, title_of
from fastnst.web.training import Trainings
from fastnst.web.training_tab import training_tab

CSS = """
.styles .thumbnail-lg, .pairs .thumbnail-lg { aspect-ratio: 2 !important; }
.styles .caption-label { white-space: normal; max-width: 100%; padding: 2px 6px; line-height: 1.2; }
.styles .grid-wrap { min-height: 0; max-height: 290px; }
.styles .thumbnail-item.selected { outline: 3px solid var(--color-accent); }
.gradio-container { overflow: clip !important; }  /* hidden would hold the result fast while the dials scroll */
@media (min-width: 768px) { #right { position: sticky; top: 8px; align-self: flex-start; } }
@media (max-width: 767px) {  /* on a phone the result comes after the photograph, and before styles and dials */
  #left { display: contents; }
  #left > * { order: 2; width: 100%; }
  #left > :nth-child(-n+2) { order: 0; }
  #right { order: 1; }
  .styles .grid-container { grid-template-columns: repeat(2, 1fr) !important; }
}
"""
OWN = "own"
BRUSHWORK: list[tuple[str, str | int]] = [("The style's own", OWN), ("None", 0), ("Faint", 3), ("Plain", 6), ("Bold", 12)]
SAVE = "() => setTimeout(() => document.querySelector('#file').click(), 200)"


def look_of(
    style,
    painting,
    second,
    second_painting,
    share,
    strength,
    preserve_color,
    style_scale,
    style_size,
    style_weight,
    brushwork=OWN,
    mask=None,
) -> Look:
    """The look that the page's dials describe, in their order. The names are those that clients know them by."""
    controls = Controls(
        strength, preserve_color, style_scale, style_size=round(style_size), style_weight=style_weight,
        brushwork=None if brushwork == OWN else brushwork,
    )  # fmt: skip
    return Look(style, painting, second or None, second_painting, share, mask, controls)


def with_dials(function: Callable) -> Callable:
    """A handler of a file and the dials, from a function of the file and a Look."""

    def call(file, *dials):
        return function(file, look_of(*dials))

    (file, _), dials = signature(function).parameters.values(), signature(look_of).parameters.values()
    call.__signature__ = Signature([file, *dials])  # type: ignore[attr-defined]
    call.__doc__ = function.__doc__
    return told(call)


def build_page(studio: Studio, trainings: Trainings | None = None):
    """The Gradio page of a studio. trainings: None leaves out what learns styles."""
    import gradio as gr

    if trainings is not None:
        studio.add_trained(trainings.finished())
        studio.groups.setdefault(TRAINED, [])
    headings = [heading for heading, names in studio.groups.items() if names or heading == TRAINED]
    group_of = {name: heading for heading in headings for name in studio.groups[heading]}
    any_style = next(iter(studio.any_painting), None)
    paintings = [str(path) for folder in (PAINTINGS, ARTWORKS) for path in sorted(folder.glob("*.jpg"))]
    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}

    def choices() -> list[tuple[str, str]]:
        return [(title_of(name), name) for name in studio.styles]

    def show_styles() -> tuple:
        """Every style that there is now, for the two lists, and the galleries' pictures."""
        made = studio.thumbnails()
        pictures = [
            [(made[name], title_of(studio.styles[name][1] or name)) for name in studio.groups[heading]]
            for heading in headings
        ]
        return (
            gr.update(choices=choices()), gr.update(choices=[("None", ""), *choices()]),
            *pictures,
        )  # fmt: skip

    def mark(name: str) -> tuple:
        """The galleries and the card follow the list of styles."""
        heading = next((heading for heading in headings if name in studio.groups[heading]), None)
        marked = [studio.groups[heading].index(name) if heading == other else None for other in headings]
        return (
            studio.card(name), gr.update(visible=name in studio.any_painting), gr.update(selected=heading),
            *(gr.update(selected_index=index) for index in marked),
        )  # fmt: skip

    @with_dials
    def preview(photograph, look):
        """A photograph in a style, reduced to 640 px, beside itself."""
        return None if photograph is None else studio.preview(photograph, look)

    @with_dials
    def restyle(photograph, look):
        """A photograph in a style at full resolution: both reduced for the page, and the result's file."""
        return studio.restyle(photograph, look)

    @with_dials
    def film(film, look):
        """A film in a style."""
        return studio.film(film, look)

    @told
    def sheet(photograph, painting, progress=gr.Progress()):  # noqa: B008  # Gradio's way
        """A contact sheet: a photograph in every style."""
        return studio.sheet(photograph, painting, progress)

    @told
    def canvas(photograph):
        return (
            None
            if photograph is None
            else {"background": studio.reduced(photograph, PREVIEW), "layers": [], "composite": None}
        )

    with gr.Blocks(title="fastnst", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.Markdown("# fastnst\nDrop a photograph, choose a style, compare, download.")
        with gr.Row():
            with gr.Column(elem_id="left"):
                photograph = upload("Photograph", "photograph")
                gr.Examples([[str(path)] for path in studio.samples], photograph, label="Or one of these", elem_id="samples")
                with gr.Tabs(overflow_behavior="wrap", selected=group_of[studio.first], elem_id="groups") as tabs:
                    galleries = []
                    for heading in headings:
                        with gr.Tab(heading, id=heading):
                            galleries.append(
                                gr.Gallery(
                                    columns=3, fit_columns=False, height="auto", object_fit="cover", allow_preview=False,
                                    interactive=False, buttons=[], elem_classes="styles", show_label=False, label=heading,
                                )
                            )  # fmt: skip
                style = gr.Dropdown(choices(), value=studio.first, label="Style", elem_id="style", allow_custom_value=True)
                card = gr.Markdown(studio.card(studio.first), elem_id="card")
                with gr.Column(visible=studio.first in studio.any_painting, elem_id="any") as asked:
                    painting = upload("Your painting", "painting", value=paintings[1])
                    gr.Examples([[path] for path in paintings], painting, label="Or one of these")
                    size = STYLE_SIZES[0] if any_style is None else studio.style_size(any_style)
                    style_size = gr.Slider(*STYLE_SIZES, size, step=16, label="Size of the painting, in px")
                    style_weight = gr.Slider(0.34, MOST_WEIGHT, 1.0, step=0.02, label="Weight of the style")
                strength = gr.Slider(0, 1, 1.0, step=0.05, label="Strength")
                style_scale = gr.Slider(0.5, 2, 1.0, step=0.1, label="Size of strokes")
                brushwork = gr.Dropdown(BRUSHWORK, value=OWN, label="Brushwork")
                preserve_color = gr.Checkbox(label="Keep the photograph's colours")
                with gr.Accordion("A second style", open=False, elem_id="second"):
                    second = gr.Dropdown(
                        [("None", ""), *choices()], value="", label="Second style", allow_custom_value=True
                    )  # fmt: skip
                    second_painting = upload("Its painting", "second_painting", value=paintings[2], visible=False)
                    share = gr.Slider(0, 1, 0.5, step=0.05, label="Share of the second style")
                    mask = brush()
            with gr.Column(elem_id="right"):
                with gr.Row():  # at the top, where they are seen without scrolling however many styles there are
                    save = gr.Button("Download at full size", variant="primary", elem_id="download")
                    all_styles = gr.Button("All styles", elem_id="all")
                file = gr.DownloadButton("File", elem_id="file", visible="hidden")
                slider = gr.ImageSlider(label="Before and after", interactive=False, elem_id="result", format="png")
                gr.Markdown(
                    f"A preview of {PREVIEW} px. At full size strokes have as many px, and so are finer in the picture."
                )
                contact = gr.Image(
                    label="All styles", visible=False, elem_id="sheet", format="png", interactive=False, buttons=["download"]
                )
        dials = [
            style, painting, second, second_painting, share,
            strength, preserve_color, style_scale, style_size, style_weight, brushwork, mask,
        ]  # fmt: skip
        if importlib.util.find_spec("av"):
            with gr.Accordion("A film", open=False, elem_id="films"):
                gr.Markdown(
                    f"In the style and with the dials above; at most {studio.max_seconds:g} s, reduced to {PREVIEW} px."
                )
                with gr.Row():
                    clip = by_path(gr.Video(label="Film", sources=["upload"], elem_id="film", height=300))
                    painted = gr.Video(label="Restyled", interactive=False, elem_id="painted", height=300)
                start = gr.Button("Restyle the film")
            start.click(film, [clip, *dials], painted, api_name="film", concurrency_id="long")
        if trainings is not None:
            training_tab(studio, trainings, photograph, show_styles, [style, second, *galleries])

        page.load(show_styles, None, [style, second, *galleries], **private)
        for gallery, heading in zip(galleries, headings, strict=True):

            def choose(event: gr.SelectData, heading: str = heading) -> str:
                return studio.groups[heading][event.index]

            gallery.select(choose, None, style, **private)
        style.change(mark, style, [card, asked, tabs, *galleries], **private)
        second.change(lambda name: gr.update(visible=name in studio.any_painting), second, second_painting, **private)
        gr.on([photograph.change, mask.clear], canvas, photograph, mask, **private)
        # Gradio's editor keeps its first change to itself, and an input may come with what was painted before it.
        painted_on = [mask.change, mask.input]
        follow = [photograph.change, *painted_on, *(dial.change for dial in dials if dial is not mask)]
        gr.on(
            follow, preview, [photograph, *dials], slider, api_name="preview", trigger_mode="always_last",
            show_progress="minimal", concurrency_id="pictures",
        )  # fmt: skip
        save.click(restyle, [photograph, *dials], [slider, file], api_name="restyle", concurrency_id="pictures").success(
            None, js=SAVE
        )
        all_styles.click(lambda: gr.update(visible=True), None, contact, **private)
        all_styles.click(sheet, [photograph, painting], contact, api_name="sheet", concurrency_id="long")
        gr.api(studio.listing, api_name="styles")
    return page.queue(max_size=VISITORS, default_concurrency_limit=1)
