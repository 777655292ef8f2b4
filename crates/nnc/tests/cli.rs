//! The command line as a user meets it: the built program, in a fresh folder, on the data that ships with it.

mod common;

use common::{EXAMPLES, digits, fails, nnc, ok};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

#[test]
fn digits_reach_their_accuracy_and_the_report_says_so() {
    let (_keep, folder) = digits();
    ok(&folder, &["train", "digits.nn", "--out", "run", "--report", "report.json", "--seed", "1"]);
    let report: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("report.json")).unwrap()).unwrap();
    assert!(report["test"]["accuracy"].as_f64().unwrap() >= 0.97, "{report}");
    for key in ["epochs", "train_seconds", "compile_seconds", "items_per_second", "arena_bytes", "parameters"] {
        assert!(report[key].as_f64().is_some_and(|value| value > 0.0), "{key} in {report}");
    }
    let evaluated = ok(&folder, &["eval", "digits.nn", "--weights", "run/best.safetensors", "--json"]);
    let evaluated: serde_json::Value = serde_json::from_str(&evaluated).unwrap();
    assert_eq!(evaluated["test"], report["test"]);
    for file in ["last.safetensors", "best.safetensors", "metrics.csv", "curves.svg"] {
        assert!(folder.join("run").join(file).exists(), "{file}");
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let (_keep, folder) = digits();
    let mut checkpoints = Vec::new();
    for threads in ["1", "2", "3"] {
        let out = format!("run{threads}");
        ok(&folder, &["train", "digits.nn", "--out", &out, "--set", "epochs=2", "--threads", threads]);
        checkpoints.push(fs::read(folder.join(out).join("last.safetensors")).unwrap());
    }
    assert!(checkpoints.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn a_killed_run_resumes_to_the_same_bits() {
    let (_keep, folder) = digits();
    let settings = ["--set", "epochs=4", "--checkpoint-every", "7"];
    ok(&folder, &[&["train", "digits.nn", "--out", "whole"][..], &settings].concat());
    for wait in [60, 120, 200, 300] {
        let mut words = vec!["train", "digits.nn", "--out", "killed"];
        words.extend(settings);
        if folder.join("killed/last.safetensors").exists() {
            words.push("--resume");
        }
        let mut child = Command::new(env!("CARGO_BIN_EXE_nnc"));
        let mut child = child.current_dir(&folder).args(&words).stdout(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let mut words = vec!["train", "digits.nn", "--out", "killed"];
    words.extend(settings);
    if folder.join("killed/last.safetensors").exists() {
        words.push("--resume");
    }
    ok(&folder, &words);
    for file in ["last.safetensors", "best.safetensors", "metrics.csv"] {
        let read = |run: &str| fs::read(folder.join(run).join(file)).unwrap();
        assert!(read("whole") == read("killed"), "{file} differs");
    }
    let curves = |run: &str| fs::read_to_string(folder.join(run).join("curves.svg")).unwrap();
    assert!(curves("whole") == curves("killed"), "the curves differ");
    for run in ["whole", "killed"] {
        let names = fs::read_dir(folder.join(run)).unwrap().map(|entry| entry.unwrap().file_name());
        let events = names.filter(|name| name.to_string_lossy().starts_with("events.out.tfevents."));
        assert_eq!(events.count(), 1, "a run has one event file, resumed or not");
    }
}

#[test]
fn a_metric_that_is_a_matrix_is_drawn() {
    let (_keep, folder) = digits();
    let text = fs::read_to_string(folder.join("digits.nn")).unwrap();
    let metric = "    metric accuracy = accuracy(logits, label)\n";
    let more = format!("{metric}    metric confusion = confusion(argmax(logits, axis=-1), label, 10)\n");
    fs::write(folder.join("digits.nn"), text.replace(metric, &more)).unwrap();
    let said = ok(&folder, &["train", "digits.nn", "--out", "run", "--set", "epochs=2"]);
    assert!(!said.contains("confusion"), "it is drawn, not said: {said}");
    for (split, examples) in [("validation", 144), ("test", 360)] {
        let svg = fs::read_to_string(folder.join(format!("run/confusion-{split}.svg"))).unwrap();
        assert!(svg.contains(&format!("Digits: confusion, {split}")) && svg.matches("<rect").count() == 100, "{svg}");
        let numbers = svg.lines().filter_map(|line| line.trim().parse::<u32>().ok());
        // The names of the classes stand at the rows and at the columns.
        assert_eq!(numbers.sum::<u32>(), examples + 2 * 45, "{svg}");
    }
}

#[test]
fn plots_that_cannot_be_written_do_not_end_a_training() {
    let (_keep, folder) = digits();
    fs::create_dir_all(folder.join("run/curves.svg/in the way")).unwrap();
    let output = nnc(&folder, &["train", "digits.nn", "--out", "run", "--set", "epochs=1"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("warning: no curves") && said.contains("curves.svg"), "{said}");
    assert!(folder.join("run/last.safetensors").exists());
}

#[test]
fn what_cannot_be_resumed_says_first_that_it_is_of_another_model() {
    let (_keep, folder) = digits();
    ok(&folder, &["train", "digits.nn", "--out", "run", "--set", "epochs=1"]);
    let text = fs::read_to_string(folder.join("digits.nn")).unwrap();
    let resume = ["train", "other.nn", "--out", "run", "--resume", "--set", "batch=7"];
    fs::write(folder.join("other.nn"), &text).unwrap();
    assert!(fails(&folder, &resume).contains("batch"));
    fs::write(folder.join("other.nn"), text.replace("dense(10)", "dense(20) |> dense(10)")).unwrap();
    let error = fails(&folder, &resume);
    assert!(error.contains("these are the weights of another model") && !error.contains("batch"), "{error}");
}

#[test]
fn a_run_is_not_resumed_with_another_optimiser() {
    let (_keep, folder) = digits();
    let text = fs::read_to_string(folder.join("digits.nn")).unwrap();
    let with = |name: &str, optimiser: &str| {
        fs::write(folder.join(name), text.replace("adamw(lr=cosine(3e-3, warmup=50))", optimiser)).unwrap();
    };
    with("moments.nn", "adam()");
    with("plain.nn", "sgd()");
    for (first, then) in [("moments", "plain"), ("plain", "moments")] {
        ok(&folder, &["train", &format!("{first}.nn"), "--out", first, "--set", "epochs=1"]);
        let error = fails(&folder, &["train", &format!("{then}.nn"), "--out", first, "--resume"]);
        assert!(error.contains("another optimiser or metric, as `$optimizer.conv2d_1.b.m` tells"), "{error}");
    }
}

const DRAWN: &str = "
model Fit(x: f32[N, 2]) -> f32[N] { return dense(x, 1)[:, 0] }
data points {
    train: (f32[2], f32) = csv(\"points.csv\")
    x: f32[2] = train.0
    y: f32 = train.1
}
train Fit on points {
    epochs = 2; batch = 4
    minimize mse(Fit(x), y) using sgd(lr=0.01)
    picture both = stack([Fit(x), y])
    answer noise = uniform([5, 3, 4, 6])
    answer fit = Fit(x)
}
";

#[test]
fn pictures_are_drawn_each_epoch_and_by_run() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("points.csv"), "1,2,3\n".repeat(9)).unwrap();
    fs::write(folder.join("fit.nn"), DRAWN).unwrap();
    ok(folder, &["train", "fit.nn", "--out", "run"]);
    for epoch in 0..3 {
        assert_eq!(size_of_png(&folder.join(format!("run/both-00{epoch}.png"))), (4, 2));
    }
    let run = ["run", "fit.nn", "--weights", "run/last.safetensors", "--output"];
    ok(folder, &[&run[..], &["noise.png", "--answer", "noise"]].concat());
    assert_eq!(size_of_png(&folder.join("noise.png")), (3 * 6 + 2 * 2, 2 * 4 + 2));
    let error = fails(folder, &[&run[..], &["fit.png", "--answer", "fit", "--input", "points.csv"]].concat());
    assert!(error.contains("fit.png") || error.contains("points.csv"), "{error}");
    fs::write(folder.join("x.csv"), "1,2\n").unwrap();
    let error = fails(folder, &[&run[..], &["fit.png", "--answer", "fit", "--input", "x.csv"]].concat());
    assert!(error.contains("[1] is no picture") && !folder.join("fit.png").exists(), "{error}");
    assert!(fails(folder, &[&run[..], &["fit.npy", "--answer", "fit"]].concat()).contains("--input x=PATH is missing"));
}

/// Width and height as the header of a PNG file tells them.
fn size_of_png(path: &Path) -> (u32, u32) {
    let bytes = fs::read(path).unwrap();
    assert_eq!(&bytes[1..4], b"PNG");
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

#[test]
fn an_executable_gives_the_bits_of_run_and_nearly_those_of_the_interpreter() {
    let (_keep, folder) = digits();
    ok(&folder, &["train", "digits.nn", "--out", "run", "--set", "epochs=1"]);
    let rows: String = (0..5)
        .map(|row| (0..64).map(|at| ((at * 7 + row * 3) % 17).to_string()).collect::<Vec<_>>().join(",") + "\n")
        .collect();
    fs::write(folder.join("rows.csv"), rows).unwrap();
    let weights = ["--weights", "run/last.safetensors"];
    ok(&folder, &[&["build", "digits.nn", "-o", "digits"][..], &weights].concat());
    let run = ["run", "digits.nn", "--input", "rows.csv"];
    ok(&folder, &[&run[..], &weights, &["--output", "run.npy"]].concat());
    ok(&folder, &[&run[..], &weights, &["--output", "interp.npy", "--engine", "interp"]].concat());
    let mut executable = Command::new(folder.join("digits"));
    let output =
        executable.current_dir(&folder).env_clear().args(["rows.csv", "--output", "exe.npy"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::write(folder.join("row.csv"), vec!["3"; 64].join(",")).unwrap();
    for given in [&["row.csv"][..], &["rows.csv"], &["rows.csv", "--top", "3"], &["row.csv", "--json"]] {
        let program = Command::new(folder.join("digits")).current_dir(&folder).args(given).output().unwrap();
        let printed = ok(&folder, &[&["run", "digits.nn", "--input"][..], given, &weights].concat());
        assert_eq!(printed, String::from_utf8_lossy(&program.stdout), "{given:?}");
    }
    let many =
        Command::new(folder.join("digits")).current_dir(&folder).args(["row.csv", "--threads", "99999"]).output();
    let said = String::from_utf8_lossy(&many.unwrap().stderr).into_owned();
    assert!(said.starts_with("--threads 99999: ") && said.lines().count() == 1, "{said}");
    let several = ["build", "digits.nn", "--isa", "cranelift,avx2,avx512,avxvnni,avx512", "-o", "several"];
    let built = nnc(&folder, &[&several[..], &weights].concat());
    let said = String::from_utf8_lossy(&built.stderr).into_owned();
    assert!(built.status.success() && said.contains("no code of `cranelift` is made: `avx2`"), "{said}");
    let program = |words: &[&str]| {
        let output =
            Command::new(folder.join("several")).current_dir(&folder).env_clear().args(words).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(
        program(&["--version"]).trim_end().ends_with(", for avx512, avxvnni and avx2"),
        "{}",
        program(&["--version"])
    );
    program(&["rows.csv", "--output", "several.npy"]);
    let numbers = |name: &str| fs::read(folder.join(name)).unwrap();
    assert!(numbers("run.npy") == numbers("exe.npy"));
    assert!(numbers("run.npy") == numbers("several.npy"));
    let floats = |name: &str| {
        let bytes = numbers(name);
        let data = bytes[bytes.len() - 5 * 10 * 4..].to_vec();
        data.chunks(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect::<Vec<f32>>()
    };
    for (native, exact) in floats("run.npy").into_iter().zip(floats("interp.npy")) {
        assert!((native - exact).abs() <= 1e-5, "{native} {exact}");
    }
}

#[test]
fn every_example_checks_shows_and_explains() {
    for entry in fs::read_dir(EXAMPLES).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "nn") {
            continue;
        }
        let file = path.to_str().unwrap();
        let folder = Path::new(EXAMPLES);
        ok(folder, &["check", file]);
        assert!(ok(folder, &["show", file]).contains("total"), "{file}");
        // Of several recipes one is named; the size of what an answer takes is given.
        let text = fs::read_to_string(&path).unwrap();
        let mut recipes = text.lines().filter_map(|line| line.strip_prefix("train ")?.split([' ', '(']).next());
        let first = recipes.next().filter(|_| recipes.next().is_some());
        let only = first.into_iter().flat_map(|name| ["--only", name]);
        let sizes = text.contains("i32[N, P]").then_some(["--bind", "P=4"]).into_iter().flatten();
        let words: Vec<&str> = ["explain", file, "--program", "answer"].into_iter().chain(only).chain(sizes).collect();
        let explained = ok(folder, &words);
        assert!(explained.contains("fusions"), "{file}");
        ok(folder, &["fmt", "--check", file]);
    }
}

#[test]
fn every_stage_can_be_dumped() {
    let (_keep, folder) = digits();
    for stage in ["ast", "graph", "opt", "kernel", "clif", "asm"] {
        assert!(!ok(&folder, &["dump", "digits.nn", "--at", stage]).is_empty(), "{stage}");
    }
}

#[test]
fn a_profile_names_the_anchor_of_each_kernel_and_what_bounds_it() {
    let (_keep, folder) = digits();
    let text = ok(&folder, &["profile", "digits.nn", "--seconds", "0.05", "--json"]);
    let profile: serde_json::Value = serde_json::from_str(&text).unwrap();
    let launches = profile["launches"].as_array().unwrap();
    for (kernel, op) in
        [("conv", "conv_last (conv2d)"), ("dot", "dot (dense)"), ("conv_weight_grad", "conv_weight_grad")]
    {
        let mut named = launches.iter().filter(|launch| launch["kernel"] == kernel);
        assert!(named.any(|launch| launch["computes"].as_str().unwrap().contains(op)), "{kernel}: {text}");
    }
    let cache = profile["roofline"]["caches"][2]["size"].as_u64().unwrap();
    for launch in launches.iter().filter(|launch| launch["bytes"].as_u64().unwrap() <= cache) {
        assert_ne!(launch["bound"], "memory", "{launch}");
    }
    for name in ["seconds", "run_percent", "median_percent", "weighted_percent"] {
        assert!(profile["predictions"][name].as_f64().unwrap() >= 0.0, "{name}: {text}");
    }
    assert!(launches.iter().all(|launch| launch["predicted_seconds"].as_f64().unwrap() > 0.0), "{text}");
}

/// Nothing is measured: what is printed is the same each time, and more threads make nothing slower that memory bounds.
#[test]
fn explain_predicts_the_time_of_each_kernel() {
    let (_keep, folder) = digits();
    let told = |threads: &str| ok(&folder, &["explain", "digits.nn", "--json", "--isa", "avx2", "--threads", threads]);
    assert_eq!(told("1"), told("1"));
    let plan: serde_json::Value = serde_json::from_str(&told("2")).unwrap();
    assert_eq!(plan["predicted_for_threads"], 2);
    for kernel in plan["kernels"].as_array().unwrap() {
        assert!(kernel["predicted_seconds"].as_f64().unwrap() > 0.0, "{kernel}");
        let bytes = kernel["predicted"]["bytes"].as_object().unwrap();
        assert!(bytes.values().all(|count| count.as_f64().unwrap() >= 0.0), "{kernel}");
    }
    let text = ok(&folder, &["explain", "digits.nn", "--program", "answer"]);
    assert!(text.contains("predicted for 1 thread") && text.contains("GFLOP/s"), "{text}");
}

/// What reads images says how they lie; what is packed once moves bytes, and is no blank.
#[test]
fn explain_tells_layouts_and_packs() {
    let (_keep, folder) = digits();
    let words = ["explain", "digits.nn", "--program", "answer"];
    let plan: serde_json::Value = serde_json::from_str(&ok(&folder, &[&words[..], &["--json"]].concat())).unwrap();
    let kernels = plan["kernels"].as_array().unwrap();
    let layout_of = |name: &str| kernels.iter().find(|kernel| kernel["kernel"] == name).unwrap()["layout"].clone();
    assert_eq!(layout_of("conv"), "channels last");
    assert!(layout_of("dot").is_null() && layout_of("pack").is_null());
    for kernel in kernels.iter().filter(|kernel| kernel["runs"] == 0) {
        assert!(kernel["bytes"].as_u64().unwrap() > 0, "{kernel}");
    }
    let text = ok(&folder, &words);
    assert!(text.contains("channels last") && text.contains(" pack for dot ") && !text.contains("()"), "{text}");
    let help = ok(&folder, &["explain", "--help"]);
    assert!(help.contains("predicted") && help.contains("memory") && help.contains("7+4"), "{help}");
}

/// All of the compiler, not its passes alone.
#[test]
fn the_time_of_every_step_is_told() {
    let (_keep, folder) = digits();
    let said = |words: &[&str]| {
        let output = nnc(&folder, &[words, &["--time-passes"]].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.contains("simplify"), "{words:?}: {said}");
        said
    };
    let weights = ["--weights", "run/last.safetensors"];
    fs::write(folder.join("x.csv"), format!("{}\n", vec!["3"; 64].join(","))).unwrap();
    let train = said(&["train", "digits.nn", "--set", "epochs=1", "--out", "run"]);
    let run = said(&[&["run", "digits.nn", "--input", "x.csv"], &weights[..]].concat());
    let eval = said(&[&["eval", "digits.nn"], &weights[..]].concat());
    for step in ["lowering", "code generation", "linking"] {
        assert!(train.contains(step) && run.contains(step) && eval.contains(step), "{step}\n{train}{run}{eval}");
    }
    assert!(said(&["dump", "digits.nn", "--at", "kernel"]).contains("lowering"));
    let interpreted = said(&[&["run", "digits.nn", "--input", "x.csv", "--engine", "interp"], &weights[..]].concat());
    assert!(!interpreted.contains("lowering"), "{interpreted}");
}

#[test]
fn each_kind_of_fusion_can_be_switched_off() {
    let (_keep, folder) = digits();
    let text = ok(&folder, &["bench", "digits.nn", "--seconds", "0.01", "--ablate", "--json"]);
    let comparisons: serde_json::Value = serde_json::from_str(&text).unwrap();
    let (fused, unfused) = (&comparisons[0]["fused"]["kernels"], &comparisons[0]["unfused"]["kernels"]);
    let ablations = comparisons[0]["ablations"].as_array().unwrap();
    let names: Vec<&str> = ablations.iter().map(|each| each["without"].as_str().unwrap()).collect();
    assert_eq!(names, ["elementwise", "reductions", "rows", "epilogues", "attention", "pooling", "scalars"]);
    let kernels = ablations.iter().map(|each| each["side"]["kernels"].as_u64().unwrap());
    assert!(kernels.clone().all(|each| (fused.as_u64().unwrap()..unfused.as_u64().unwrap()).contains(&each)), "{text}");
    assert!(kernels.into_iter().any(|each| each > fused.as_u64().unwrap()), "{text}");
}

#[test]
fn what_fills_the_memory_is_explained() {
    let (_keep, folder) = digits();
    let text = ok(&folder, &["explain", "digits.nn"]);
    assert!(text.contains("fullest in launch "), "{text}");
    let plan: serde_json::Value = serde_json::from_str(&ok(&folder, &["explain", "digits.nn", "--json"])).unwrap();
    let buffers = plan["peak"]["buffers"].as_array().unwrap();
    let in_use: u64 = buffers.iter().map(|buffer| buffer["bytes"].as_u64().unwrap()).sum();
    let arena = plan["arena_bytes"].as_u64().unwrap();
    assert!(in_use <= arena && in_use > arena / 2, "{in_use} of {arena}");
    let launch = plan["peak"]["launch"].as_u64().unwrap();
    for buffer in buffers {
        let (first, last) = (buffer["first_launch"].as_u64().unwrap(), buffer["last_launch"].as_u64().unwrap());
        assert!((first..=last).contains(&launch), "{buffer}");
    }
    assert!(buffers.iter().any(|buffer| buffer["holds"].as_str().unwrap().ends_with("(relu)")), "{buffers:?}");
}

#[test]
fn a_derivative_is_printed() {
    let (_keep, folder) = digits();
    let text = ok(&folder, &["grad", "digits.nn"]);
    assert!(text.contains("dense_2.w"), "{text}");
}

#[test]
fn a_new_project_checks() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["mynet", "my-net", "9", "n", "data", "train", "dense", "n__2", "réseau", "-"] {
        ok(folder.path(), &["new", "--", name]);
        let said = ok(folder.path(), &["check", "--", &format!("{name}.nn")]);
        assert!(said.starts_with("ok "), "{said}");
        ok(folder.path(), &["fmt", "--check", "--", &format!("{name}.nn")]);
    }
    let text = fs::read_to_string(folder.path().join("my-net.nn")).unwrap();
    for part in ["nnc train my-net.nn", "model MyNet(", "data my_net {", "train MyNet on my_net {"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let error = fails(folder.path(), &["new", "mynet"]);
    assert!(error.contains("mynet.nn"), "{error}");
}

#[test]
fn bad_input_gets_a_message_that_helps() {
    let (_keep, folder) = digits();
    let cases: &[(&[&str], &str)] = &[
        (&["train", "missing.nn"], "missing.nn"),
        (&["trian", "digits.nn"], "train"),
        (&["train", "digits.nn", "--set", "epoch=3"], "epochs"),
        (&["train", "digits.nn", "--set", "epochs=three"], "epochs"),
        (&["train", "digits.nn", "--bind", "N=x"], "N=64"),
        (&["train", "digits.nn", "--data", "nowhere"], "nowhere"),
        (&["eval", "digits.nn", "--weights", "nothing.safetensors"], "nothing.safetensors"),
        (&["eval", "digits.nn", "--weights", "digits.nn"], "safetensors"),
        (&["run", "digits.nn", "--weights", "digits.nn", "--input", "x.npy"], "safetensors"),
    ];
    for (words, expected) in cases {
        let error = fails(&folder, words);
        assert!(error.contains(expected), "nnc {}: {error}", words.join(" "));
    }
}

#[test]
fn a_loss_that_is_no_number_is_withheld_and_explained() {
    let (_keep, folder) = digits();
    let text = fs::read_to_string(folder.join("digits.nn")).unwrap();
    fs::write(folder.join("wild.nn"), text.replace("lr=cosine(3e-3, warmup=50)", "lr=1e30")).unwrap();
    let error = fails(&folder, &["train", "wild.nn", "--out", "run"]);
    assert!(error.contains("withheld") && error.contains("first made by"), "{error}");
}

#[test]
fn an_interrupt_writes_a_checkpoint_and_says_how_to_resume() {
    let (_keep, folder) = digits();
    let child = Command::new(env!("CARGO_BIN_EXE_nnc"))
        .current_dir(&folder)
        .args(["train", "digits.nn", "--out", "run", "--set", "epochs=500"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    while !folder.join("run/metrics.csv").exists() {
        std::thread::sleep(Duration::from_millis(20));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("--resume"), "{said}");
    assert!(folder.join("run/last.safetensors").exists());
}

#[test]
fn a_size_that_show_takes_as_1_is_told() {
    let keep = tempfile::tempdir().unwrap();
    let folder = keep.path();
    fs::write(folder.join("net.nn"), "model Net(x: f32[N, T, 3]) -> f32[N, T, 4] = dense(x, 4)\n").unwrap();
    let told = |words: &[&str]| String::from_utf8_lossy(&nnc(folder, words).stderr).into_owned();
    let open = told(&["show", "net.nn"]);
    assert_eq!(open, "`T` is taken as 1: the model leaves it open; give it with `--bind T=64`\n");
    assert_eq!(told(&["show", "net.nn", "--bind", "T=8"]), "");
}
