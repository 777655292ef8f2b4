"""The long runs of the zoo and of its PyTorch twins, and what came out as `measured.json`.

    python tests/parity/long_runs.py NNC DATA OUT [NAME...]      NAME: a network, all unless given

DATA has the folders mnist, sst2, multi30k and text, and the files fsdd.tar.gz and cifar10-subset.tar. Two runs go at a time,
of one thread each, and the seconds are of the processor; what is in OUT already is not done again, so that an interrupted
series goes on. The results of all runs in OUT are joined with those in `measured.json`, of which equal ones are replaced."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading

HERE = pathlib.Path(__file__).parent
EXAMPLES = HERE.parent.parent / "dsl-examples"
# Network: folder or file of the data (of nnc, of the twin), the twin, epochs (0: those of the recipe), seeds. None has no
# twin: what is said of it then is why PyTorch has nothing to tell there.
RUNS = {
    "sentiment_cnn": ("sst2", "sst2", "sentiment.py cnn", 0, (1, 2)),
    "sentiment_lstm": ("sst2", "sst2", "sentiment.py lstm", 0, range(1, 7)),
    "sentiment_transformer": ("sst2", "sst2", "sentiment.py transformer", 0, (1, 2)),
    "spoken_digits": ("", "fsdd.tar.gz", "speech.py cnn", 0, (1, 2)),
    "spoken_digits_lstm": ("", "fsdd.tar.gz", "speech.py lstm", 0, (1, 2)),
    "nanogpt": ("text", "text/tinyshakespeare.txt", "language.py nanogpt", 0, (1, 2)),
    "char_rnn": ("text", "text/tinyshakespeare.txt", "language.py char_rnn", 1, (1, 2, 3)),
    "char_rnn in full": ("text", "text/tinyshakespeare.txt", "language.py char_rnn", 10, (1, 2)),
    "char_lstm": ("text", "text/tinyshakespeare.txt", "language.py char_lstm", 1, (1, 2, 3)),
    "char_gru": ("text", "text/tinyshakespeare.txt", "language.py char_gru", 1, (1, 2, 3)),
    "char_lstm in full": ("text", "text/tinyshakespeare.txt", "language.py char_lstm", 10, (1,)),
    "char_gru in full": ("text", "text/tinyshakespeare.txt", "language.py char_gru", 10, (1,)),
    "vae": ("mnist", "mnist", "generative.py vae", 0, (1,)),
    "autoencoder": ("mnist", "mnist", "generative.py autoencoder", 0, range(1, 11)),
    "matrix_factorisation": (None, EXAMPLES / "data/ratings.csv", "generative.py matrix_factorisation", 0, (1, 2, 3)),
    "seq2seq_attention": ("multi30k", "multi30k", "translation.py seq2seq_attention", 3, (1,)),
    "seq2seq_attention in full": ("multi30k", "multi30k", "translation.py seq2seq_attention", 8, (1,)),
    "transformer_translation": ("multi30k", "multi30k", "translation.py transformer_translation", 3, (1,)),
    "transformer_translation in full": ("multi30k", "multi30k", "translation.py transformer_translation", 10, (1,)),
    "resnet_cifar": ("", "cifar10-subset.tar", "cifar.py resnet_cifar", 4, (1, 2, 3)),
    "alexnet_small": ("", "cifar10-subset.tar", "cifar.py alexnet_small", 3, (1, 2, 3)),
    "inception_small": ("", "cifar10-subset.tar", "cifar.py inception_small", 3, (1, 2, 3)),
    "resnet_cifar in full": ("", "cifar10-subset.tar", "cifar.py resnet_cifar", 30, (1, 2, 3)),
    "alexnet_small in full": ("", "cifar10-subset.tar", "cifar.py alexnet_small", 30, (1, 2, 3)),
    "inception_small in full": ("", "cifar10-subset.tar", "cifar.py inception_small", 30, (1, 2, 3)),
    "mnist_mlp": ("mnist", "mnist", "classifiers.py mnist_mlp", 0, (1, 2, 3)),
    "mnist_cnn": ("mnist", "mnist", "classifiers.py mnist_cnn", 0, (1, 2, 3)),
    "denoising_autoencoder": ("mnist", "mnist", "generative.py denoising_autoencoder", 5, (1, 2)),
    "conv_autoencoder": ("mnist", "mnist", "generative.py conv_autoencoder", 3, (1, 2)),
    "denoising_autoencoder in full": ("mnist", "mnist", "generative.py denoising_autoencoder", 10, (1, 2)),
    "conv_autoencoder in full": ("mnist", "mnist", "generative.py conv_autoencoder", 5, (1, 2)),
    # Where two networks play against each other, the losses at the end measure neither. The steps of dcgan.nn are compared
    # by adversaries.py, and its samples are judged by samples.py.
    "gan": ("mnist", None, None, 0, (1,)),
    "dcgan": ("mnist", None, None, 0, (1,)),
    "wgan_gp": ("mnist", None, None, 0, (1,)),
    # Its scenes are made by nnc's language.
    "unet_digits": ("mnist", None, None, 0, (1,)),
    # Held to a bound of its own, not to another engine.
    "mnist_best": ("mnist", None, None, 0, (1,)),
    # char_gru.nn, which has a twin, on tokens that nnc's tokenizer learns.
    "token_gru": ("text", None, None, 0, (1,)),
    # What is compared is the same features without what was learnt.
    "simclr": ("", None, None, 0, (1,)),
    "transfer": ("mnist", None, None, 0, (0, 1, 2)),
}
# Recipes of one file that go on from one another: the folder that the first one's weights are looked for in, the recipes,
# and which of them train on data that ships.
STAGES = {
    "simclr": ("simclr", ("pretrain", "probe", "control"), ()),
    "transfer": ("features", ("pretrain", "transfer", "control"), ("transfer", "control")),
}
# Only these have an answer that a measure of its own is taken of.
TRANSLATIONS = ("seq2seq_attention", "transformer_translation")
DONE = re.compile(r"^done in (\d+) s", re.MULTILINE)
PARTS = ("train", "validation", "test")


def jobs(nnc, data, out, names):
    """Each run by its name: the lines that make it up."""
    for name in names:
        ours, theirs, twin, epochs, seeds = RUNS[name]
        network, told = name.split()[0], name.replace(" ", "_")
        for seed in seeds:
            run = out / f"{told}-nnc-{seed}"
            line = [nnc, "train", EXAMPLES / f"{network}.nn", "--seed", seed, "--threads", 1, "--out", run]
            line += ["--data", data / ours] if ours is not None else []
            line += ["--set", f"epochs={epochs}"] if epochs else []
            yield run.name, staged(line, run, network) if network in STAGES else [line]
            if twin:
                script, *kind = twin.split()
                line = [sys.executable, HERE / script, *kind, seed, data / theirs]
                yield f"{told}-torch-{seed}", [line + ([epochs] if epochs else [])]


def staged(line, run, network):
    """A line for each recipe. Weights are looked for beside the file, so a copy of it is trained."""
    first, recipes, shipped = STAGES[network]
    run.mkdir(parents=True, exist_ok=True)
    file = shutil.copy(EXAMPLES / f"{network}.nn", run)
    for recipe in recipes:
        out = run / (first if recipe == recipes[0] else recipe)
        data = EXAMPLES if recipe in shipped else line[line.index("--data") + 1]
        yield [*line[:2], file, "--only", recipe, *line[3:6], 1, "--out", out, "--data", data]


def work(waiting, out):
    while waiting:
        name, lines = waiting.pop(0)
        log = out / f"{name}.log"
        if log.exists() and DONE.search(log.read_text()):
            continue
        with log.open("w") as file:
            spent, failed = 0, False
            for line in lines:
                print("==", line[line.index("--only") + 1] if "--only" in line else "all", file=file, flush=True)
                run = subprocess.Popen([str(word) for word in line], stdout=file, stderr=subprocess.STDOUT)
                _, status, use = os.wait4(run.pid, 0)
                spent, failed = spent + use.ru_utime + use.ru_stime, failed or status != 0
                print(f"{use.ru_utime + use.ru_stime:.0f} s of the processor", file=file, flush=True)
            print("failed" if failed else f"done in {spent:.0f} s of the processor", file=file)
        print(name, "failed" if failed else "done", flush=True)


def told(text):
    return {name: float(value) for name, value in re.findall(r"([a-z_.]+) (-?[\d.]+)", text)}


def results(log):
    """The measures of a run, by its log."""
    name, engine, seed = log.stem.rsplit("-", 2)
    name, text = name.removesuffix("_in_full"), log.read_text()
    if not DONE.search(text):
        return
    for part in re.split(r"^== ", text, flags=re.MULTILINE)[1:]:
        recipe, spent = part.split(maxsplit=1)[0], re.search(r"^(\d+) s of the processor$", part, re.MULTILINE)
        network = name if recipe == "all" else f"{name} {recipe}"
        row = {"network": network, "engine": "nnc" if engine == "nnc" else "PyTorch", "seed": int(seed)}
        epochs, measures = of_torch(part) if engine == "torch" else of_nnc(part)
        row |= {"epochs": epochs, "seconds": int(spent[1])}
        for metric, value in measures.items():
            yield row | {"metric": metric, "value": round(value, 4)}


def of_torch(text):
    found = json.loads(next(line for line in reversed(text.splitlines()) if line.startswith("{")))
    measures = {key.replace("_", " ", 1): value for key, value in found.items() if key.split("_")[0] in PARTS}
    return found["epochs"], measures


def of_nnc(text):
    epochs = re.findall(r"^epoch +\d+/(\d+)  (.*?)(?:\| validation (.*?))?( \*)?$", text, re.MULTILINE)
    measures = {f"train {key}": value for key, value in told(epochs[-1][1]).items()}
    best = [told(validation) for _, _, validation, star in epochs if star]
    measures |= {f"validation {key}": value for key, value in (best[-1] if best else {}).items()}
    tested = re.search(r"^test on [\d,]+ examples: (.*)$", text, re.MULTILINE)
    return int(epochs[-1][0]), measures | {f"test {key}": value for key, value in (told(tested[1]) if tested else {}).items()}


def translated(nnc, data, out):
    """BLEU of what nnc's networks translate."""
    import translation

    texts = translation.read(data / "multi30k")
    table = translation.vocabulary(texts["train", "en"], translation.INTO)
    german, wanted = out / "german.txt", texts["test_2016_flickr", "en"]
    with translation.gzip.open(data / "multi30k/test_2016_flickr.de.gz") as file:
        german.write_bytes(file.read())
    for name in TRANSLATIONS:
        for log in sorted([*out.glob(f"{name}-nnc-*.log"), *out.glob(f"{name}_in_full-nnc-*.log")]):
            rows, run = list(results(log)), log.with_suffix("")
            if not rows:
                continue
            answer = run / "translation.npy"
            line = [nnc, "run", EXAMPLES / f"{name}.nn", "--weights", run / "best.safetensors", "--answer", "translation"]
            line += ["--input", f"german={german}", "--bind", f"N={len(wanted)}", "--output", answer]
            subprocess.run([str(word) for word in line], check=True, stdout=subprocess.DEVNULL)
            value = translation.bleu(translation.spelt(translation.np.load(answer), table), wanted)
            yield rows[0] | {"metric": "test bleu", "value": round(value, 4)}


def main(nnc, data, out, *names):
    out = pathlib.Path(out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    waiting = list(jobs(nnc, pathlib.Path(data), out, names or RUNS))
    workers = [threading.Thread(target=work, args=(waiting, out)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    save(out, [row for log in sorted(out.glob("*.log")) for row in results(log)] + list(translated(nnc, pathlib.Path(data), out)))


def save(out, rows):
    saved = HERE / "measured.json"
    key = lambda row: (row["network"], row["metric"], row["engine"], row["seed"], row["epochs"])
    kept = {key(row): row for row in (json.loads(saved.read_text()) if saved.exists() else [])}
    kept |= {key(row): row for row in rows}
    order = ("network", "engine", "seed", "epochs", "metric", "value", "seconds")
    lines = [json.dumps({name: kept[at][name] for name in order}) for at in sorted(kept)]
    saved.write_text("[\n  " + ",\n  ".join(lines) + "\n]\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
