"""What a run can say by itself to an item of a checklist; an empty text where it cannot."""

from __future__ import annotations

from medkeras.evaluation.page import content, opening


def network(report: content.Report) -> str:
    """Says what kind of model it is."""
    known = report.model_facts.get("Network")
    return f"A neural network: {known}" if known else ""


def architecture(report: content.Report) -> str:
    """Says network, input and outputs."""
    if not report.card:
        return network(report) and f"{network(report)}."
    given = report.card["input"]
    outputs = ", ".join(report.card["task"].get("outputs", ("probabilities",)))
    return (
        f"{network(report)}; input {given['height']} × {given['width']} × {given['channels']}, {given['units']}; "
        f"answers with {outputs}. Its full graph is in the model’s folder."
    )


def initialisation(report: content.Report) -> str:
    """Says where the weights began."""
    return str(report.model_facts.get("Weights") or "")


def software(report: content.Report) -> str:
    """Says which libraries made it."""
    return ", ".join(f"{name} {version}" for name, version in (report.card.get("libraries") or {}).items())


def sources(report: content.Report) -> str:
    """Says which data it learned from and which it was tested on."""
    tested, trained = content.source(report), (report.card.get("training") or {}).get("source")
    parts = [f"Trained on {trained}"] * bool(trained) + [f"tested on {tested}"] * bool(tested)
    return _sentence("; ".join(parts))


def preprocessing(report: content.Report) -> str:
    """Says what happens to an image before the network."""
    return _settings(report, "preprocessing.", "data.resize", "data.image_size")


def training(report: content.Report) -> str:
    """Says how it learned."""
    return _settings(report, "train.", "augment.", "seed")


def faulty(report: content.Report) -> str:
    """Says what was done about files that cannot be read, and unlabelled values."""
    return _settings(report, "data.on_error", "data.max_errors")


def partitions(report: content.Report) -> str:
    """Says how many images are in which part, and how the parts were made."""
    if not report.data_counts:
        return ""
    counts = ", ".join(f"{name} {sum(each.values()):,}" for name, each in report.data_counts.items())
    what = "Labels" if report.predictions.multilabel else "Images"
    made = _settings(report, "data.validation", "data.test", "seed")
    drawn = f" ({made})" if made else ""
    return f"{what}: {counts}. Parts that the data came with are kept; missing ones are drawn{drawn}."


def disjoint(report: content.Report) -> str:
    """Says at which level the parts are disjoint, and what was found in two of them."""
    if not report.names_patients:
        return "The data name no patients: by image at best."
    if report.data_check:
        return f"By patient; but: {' '.join(report.data_check)}"
    looked = " Looked for and not found in two parts: patients, and copies of pictures." * (
        report.data_check is not None
    )
    return f"By patient where this run drew the parts.{looked}"


def size(report: content.Report) -> str:
    """Says how many were tested; whether that is enough it cannot say."""
    return f"Tested: {content.tested(report)}. Why so many: {AUTHORS}."


AUTHORS = "to be filled in by the authors"


def selection(report: content.Report) -> str:
    """Says how the final weights were chosen."""
    return "The epoch that did best on the validation split." if report.history or report.card else ""


def fitted(report: content.Report) -> str:
    """Says what was fitted on validation after training."""
    method = (report.fitted.get("calibration") or {}).get("method")
    return f"Probabilities are calibrated on validation ({method}), within the model." if method else ""


def development(report: content.Report) -> str:
    """Says how the model was trained, and what was fitted after that."""
    return " ".join(filter(None, (training(report), fitted(report))))


def updating(report: content.Report) -> str:
    """Says that nothing was changed for the test: calibration came before it."""
    return "None: nothing was fitted to the test." if report.fitted else ""


def ensemble(report: content.Report) -> str:
    """Says which networks were combined, and how."""
    network = report.card.get("model") or {}
    return _sentence(f"{network['name']}, calibrated one by one") if network.get("members") else ""


def metrics(report: content.Report) -> str:
    """Says where the measures stand."""
    return f"{len(report.metrics['metrics'])} measures of all cases, and those of each class: section Measures."


def uncertainty(report: content.Report) -> str:
    """Says how the intervals were made."""
    interval = report.metrics["interval"]
    unit = interval["unit"] if report.names_patients else "image (no patients are named)"
    return f"95% intervals, unit: {unit}. {interval['method']}."


def robustness(report: content.Report) -> str:
    """Says what was tried beside the test split itself."""
    parts = []
    if report.metrics.get("input_gate"):
        parts.append(
            "foreign and altered images: " + ", ".join(report.metrics["input_gate"]["auroc"]).replace("_", " ")
        )
    if report.metrics.get("subgroups"):
        parts.append(f"subgroups by {', '.join(report.metrics['subgroups'])}")
    return _sentence("; ".join(parts))


def explanation(report: content.Report) -> str:
    """Says how heatmaps are made and whether they were tested."""
    found = report.metrics.get("explanations")
    if found:
        return f"{found['method']}; with sanity checks on {found['n']} images."
    return "Heatmaps of the worst mistakes." if any(each.heatmap is not None for each in report.mistakes) else ""


def internal(report: content.Report) -> str:
    """Says whether the test is of the data that it learned from."""
    trained = (report.card.get("training") or {}).get("source")
    if not trained or trained != content.source(report):
        return ""
    return f"On the test split of the source that it was trained on: {content.tested(report)}."


def external(report: content.Report) -> str:
    """Says whether the test is of other data; whether these are independent it cannot say."""
    trained, tested = (report.card.get("training") or {}).get("source"), content.source(report)
    if not trained or not tested:
        return ""
    if trained == tested:
        return "None in this run."
    return f"Another source than in training: {tested}. Whether it is independent of it: {AUTHORS}."


def demographics(report: content.Report) -> str:
    """Says which characteristics of the test cases are known."""
    columns = ", ".join(report.metrics.get("subgroups") or {})
    return f"Of the test split, by {columns}: section Does it serve everyone alike?" if columns else ""


def performance(report: content.Report) -> str:
    """Says the first number."""
    return opening.verdict(report)


def diagnostic(report: content.Report) -> str:
    """Says what the operating points reach, or where each class’s figures stand."""
    points = report.metrics.get("operating_points") or []
    if len(points) != 1:
        return "Sensitivity, specificity and AUROC of each class, with intervals: section Class by class."
    test = points[0]["test"]
    return (
        f"{points[0]['class']}: sensitivity {content.span(test['sensitivity'])}, specificity "
        f"{content.span(test['specificity'])}."
    )


def failures(report: content.Report) -> str:
    """Says what is shown of the mistakes."""
    wrong = int((~report.correct).sum())
    shown = f"; the worst {min(len(report.mistakes), 24)} with pictures" if report.mistakes else ""
    return f"{wrong:,} of {report.metrics['n']:,} images were called wrongly{shown}: section Right and wrong."


def limits(report: content.Report) -> str:
    """Says which limits are known of any such model."""
    return f"In general: section Limits. Of this study: {AUTHORS}." if len(report.limits) > 1 else ""


def imbalance(report: content.Report) -> str:
    """Says how the loss treats rare classes."""
    return _settings(report, "train.loss")


def fairness(report: content.Report) -> str:
    """Says by which columns the groups were compared."""
    columns = ", ".join(report.metrics.get("subgroups") or {})
    return f"Performance compared by {columns}; nothing was adjusted for it." if columns else ""


def output(report: content.Report) -> str:
    """Says what the model answers, and how thresholds were chosen."""
    rules = list(dict.fromkeys(content.rule(each["rule"]) for each in report.metrics.get("operating_points") or []))
    chosen = f" Thresholds, chosen on validation: {'; '.join(rules)}." if rules else ""
    return f"A probability for each class.{chosen}"


def events(report: content.Report) -> str:
    """Says how many cases of each class were tested."""
    found = [f"{name} {values['support']:,}" for name, values in report.metrics["per_class"].items()]
    return f"Tested: {content.tested(report)}; of each class: {', '.join(found[:12])}{' …' if len(found) > 12 else ''}."


def refusals(report: content.Report) -> str:
    """Says what happens to an image that is not fit to be judged."""
    table = report.predictions
    if table.abstain is None:
        return ""
    return (
        f"The model can decline to answer, and did for {table.abstain.sum():,} of {len(table):,} images; "
        "what a reader then does is up to the authors."
    )


def specification(report: content.Report) -> str:
    """Says where the whole model is."""
    return "The model’s folder holds its graph, weights and card." if report.card else ""


def _settings(report: content.Report, *names: str) -> str:
    """Returns settings by their names, or beginnings of names that end in a dot."""
    found = [
        f"{key}={value}"
        for key, value in report.settings.items()
        if any(key == name or (name.endswith(".") and key.startswith(name)) for name in names)
    ]
    return ", ".join(found)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""
