//! Answers with parameters, run on the interpreter: what they take, and generation, in one piece and step by step.

mod common;

use common::{State, checked, unit_with};
use nnc_graph::interpret::run;
use nnc_graph::verify::verify;
use nnc_graph::{DType, Graph, Op, Tensor};
use nnc_lang::elaborate::{AnswerInfo, Options, ParameterKind, Unit, check};
use std::fs;
use std::path::Path;

fn unit(text: &str, set: &[(&str, &str)]) -> Unit {
    unit_with(text, set, DType::F32)
}

fn sized(unit: &Unit, answer: &str, sizes: &[(&str, i64)]) -> Graph {
    let sizes = sizes.iter().map(|(name, size)| ((*name).to_owned(), *size)).collect();
    let recipe = unit.recipes[0].name.clone();
    let graph = unit.answer_sized(&recipe, Some(answer), 1, &sizes);
    let graph = graph.unwrap_or_else(|errors| panic!("{errors:#?}"));
    verify(&graph).unwrap_or_else(|faults| panic!("{faults:#?}"));
    graph
}

fn first_values(unit: &Unit) -> State {
    common::first_values(unit, &unit.recipes[0].name, 7)
}

/// The answer to some inputs, by freshly initialised weights.
fn answer(unit: &Unit, name: &str, sizes: &[(&str, i64)], inputs: &[(&str, Tensor)], seed: i64) -> Vec<f64> {
    let mut given = first_values(unit);
    given.extend(inputs.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.clone())));
    given.insert("$seed".to_owned(), Tensor::scalar_i64(seed));
    given.insert("$iteration".to_owned(), Tensor::scalar_i64(0));
    let run = run(&sized(unit, name, sizes), &given).unwrap_or_else(|error| panic!("{name}: {error}"));
    run.output(name).expect("the answer").to_f64()
}

fn tokens(numbers: &[f64]) -> Tensor {
    Tensor::from_f64(DType::I32, &[1, numbers.len()], numbers)
}

fn inputs(graph: &Graph) -> Vec<String> {
    let input = |op: &Op| if let Op::Input { name, ty } = op { Some(format!("{name}: {ty}")) } else { None };
    graph.nodes().filter_map(|(_, node)| input(&node.op)).collect()
}

/// A recipe on small images with these answers.
fn images(answers: &str) -> String {
    format!(
        "model Net(x: f32[N, 4]) -> f32[N, 3] {{ return dense(x, 3) }}
        data points {{
            train: (f32[4], f32[3]) = csv(\"points.csv\")
            x: f32[4] = train.0
            y: f32[3] = train.1
        }}
        train Net on points {{
            epochs = 1; batch = 2
            p = Net(x)
            minimize mse(p, y) using sgd
            {answers}
        }}"
    )
}

/// A choice that is made at compile time has the shape and the dtype of both, as any other has.
#[test]
fn a_known_choice_broadcasts() {
    let unit = unit(
        &images(
            "answer ones(z: f32[4]) = where(false, z, 1)
            answer halves(z: f32[4]) = where(true, 0.5, z)
            answer same(z: f32[4]) = where(true, z, 1)",
        ),
        &[],
    );
    let z = Tensor::from_f64(DType::F32, &[4], &[1.0, 2.0, 3.0, 4.0]);
    let found = |name: &str| answer(&unit, name, &[], &[("z", z.clone())], 0);
    assert_eq!(found("ones"), [1.0; 4]);
    assert_eq!(found("halves"), [0.5; 4]);
    assert_eq!(found("same"), z.to_f64());
}

#[test]
fn an_answer_tells_what_it_takes() {
    let text = images(
        "answer plain = p
        answer block { return p * 2 }
        answer scaled(z: f32[N, 4], more: i32[K, 2 * K], scale: f32, count: int = 2, shift: i64 = 5, half: bool = false) {
            q = Net(z) * scale
            if half { q = q / 2 }
            return (q, sum(more) + i32(shift) + count)
        }",
    );
    let unit = unit(&text, &[("count", "4"), ("scale", "0.5")]);
    let answers = &unit.recipes[0].answers;
    assert_eq!(answers[0], AnswerInfo { name: "plain".to_owned(), parameters: None });
    assert_eq!(answers[1], AnswerInfo { name: "block".to_owned(), parameters: Some(vec![]) });
    let told: Vec<String> = answers[2]
        .parameters
        .iter()
        .flatten()
        .map(|parameter| match &parameter.kind {
            ParameterKind::Input(ty) => format!("{}: {ty}", parameter.name),
            ParameterKind::Scalar(dtype, value) => {
                format!("{}: {dtype} {:?}", parameter.name, value.as_ref().map(Tensor::to_f64))
            }
            ParameterKind::Setting(value) => format!("{} {value:?}", parameter.name),
        })
        .collect();
    let expected = [
        "z: f32[N, 4]",
        "more: i32[K, 2 * K]",
        "scale: f32 Some([0.5])",
        "count Some(\"4\")",
        "shift: i64 Some([5.0])",
        "half Some(\"false\")",
    ];
    assert_eq!(told, expected);
    // Together are made those without parameters.
    let graph = unit.answer("Net", None, 3).expect("it builds");
    assert_eq!(graph.outputs().iter().map(|output| &*output.name).collect::<Vec<_>>(), ["plain"]);
    let graph = sized(&unit, "scaled", &[("K", 2)]);
    assert_eq!(inputs(&graph), ["z: f32[1, 4]", "more: i32[2, 4]", "scale: f32", "shift: i64"]);
    assert!(unit.answer("Net", Some("scaled"), 1).is_err(), "K is not known");
}

#[test]
fn an_answer_that_is_the_only_one_needs_no_name() {
    let unit = unit(&images("answer sample(count: int = 64) = Net(normal([count, 4]))"), &[("count", "5")]);
    let graph = unit.answer("Net", None, 1).expect("it builds");
    assert_eq!(inputs(&graph), ["$seed: i64", "$iteration: i64"]);
    assert_eq!(graph.ty(graph.outputs()[0].value).to_string(), "f32[5, 3]");
}

#[test]
fn what_is_given_is_held_to_the_parameter() {
    let text =
        images("answer scaled(scale: f32 = 1.0, small: u8 = 1, count: int = 2) = p * scale * count * f32(small)");
    for (name, value, code, words) in [
        ("scale", "much", "E0601", "`scale` is set to `much`, but takes a number"),
        ("count", "2.5", "E0601", "`count` is set to `2.5`, but takes a whole number"),
        ("small", "300", "E0308", "`small` is u8, and this is the int 300"),
        ("scale", "1e99", "E0308", "`scale` is f32, and this is the float 1"),
        ("scael", "2", "E0601", "did you mean `scale`?"),
    ] {
        let shown = checked(&text, &[(name, value)], DType::F32).expect_err(name);
        assert!(shown.contains(code) && shown.contains(words), "{shown}");
        assert!(shown.contains(&format!("--set {name}={value}")), "{shown}");
    }
    let text = images("answer scaled(count: int) = p * count");
    let errors = unit(&text, &[]).answer("Net", None, 1).expect_err("count is missing");
    assert_eq!(errors[0].message, "the answer `scaled` also needs `count`");
    assert_eq!(errors[0].help.as_deref(), Some("give it with `--set count=VALUE`"));
    let shown = checked(
        &images("answer q(n: int = 3) { s = scan i in 0..n with s = 0.0 { s = s + f32(i) }; return p * s }"),
        &[("n", "0")],
        DType::F32,
    );
    let shown = shown.expect_err("no steps");
    assert!(shown.contains("a `scan` of no steps") && shown.contains("--set n=0"), "{shown}");
}

#[test]
fn answers_may_have_parameters_of_one_name() {
    let text = images("answer scaled(k: f32 = 1.0) = p * k\n answer many(k: int = 2) = p * k");
    let unit = unit(&text, &[("k", "2.5")]);
    assert!(unit.answer("Net", Some("scaled"), 1).is_ok());
    let errors = unit.answer("Net", Some("many"), 1).expect_err("2.5 is no whole number");
    assert_eq!(errors[0].message, "`k` is set to `2.5`, but takes a whole number");
}

/// What is set is for the answer that is made, whoever else has a parameter of that name.
#[test]
fn a_parameter_of_two_answers_is_set_for_the_one_that_is_made() {
    let text = images(
        "answer scaled(k: f32 = 1.0) = p * k
        answer raised(k: f32 = 2.0) = p + k
        answer many(count: int = 2, t: f32 = 1.0 * count) = p * count * t
        answer few(count: int = 3) = p * count",
    );
    let told = |answer: &str, set: &[(&str, &str)]| -> Vec<String> {
        let unit = unit(&text, set);
        let made = unit.answer_and_parameters("Net", Some(answer), 1, &Default::default());
        let (_, parameters) = made.unwrap_or_else(|errors| panic!("{errors:#?}"));
        let value = |kind: &ParameterKind| match kind {
            ParameterKind::Input(ty) => ty.to_string(),
            ParameterKind::Scalar(_, value) => format!("{:?}", value.as_ref().map(Tensor::to_f64)),
            ParameterKind::Setting(value) => format!("{value:?}"),
        };
        parameters.iter().map(|parameter| format!("{} {}", parameter.name, value(&parameter.kind))).collect()
    };
    assert_eq!(told("scaled", &[]), ["k Some([1.0])"]);
    assert_eq!(told("scaled", &[("k", "5")]), ["k Some([5.0])"]);
    assert_eq!(told("raised", &[("k", "5")]), ["k Some([5.0])"]);
    assert_eq!(told("many", &[("count", "7")]), ["count Some(\"7\")", "t Some([7.0])"]);
    assert_eq!(told("few", &[("count", "7")]), ["count Some(\"7\")"]);
}

/// A text of seven characters, a model on it, and its recipe.
fn letters(model: &str, recipe: &str) -> String {
    format!(
        "{model}
        data letters {{
            train: i32[5] = text(\"a.txt\", vocabulary=7)
            tokens: i32[4] = train[0..4]
            next: i32[4] = train[1..5]
        }}
        train {recipe}"
    )
}

/// The model of an example, and the rest of a recipe with its answer and the same by the whole text at each step.
fn example(file: &str, model: &str, arguments: &str, states: usize) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dsl-examples").join(file);
    let text = fs::read_to_string(path).expect("the example is there");
    let own = &text[..text.find("data shakespeare").expect("its data")];
    let answer = &text[text.find("answer text(").expect("its answer")..].replace("64", "12");
    let rest = ", _".repeat(states);
    letters(
        own,
        &format!(
            "{model}({arguments}) on letters {{
                epochs = 1; batch = 1
                logits{rest} = {model}(tokens)
                minimize cross_entropy(logits, next) using sgd
                answer whole(text: i32[N, P]) {{
                    logits{rest} = {model}(text)
                    return logits[:, -1]
                }}
                {answer}"
        ),
    )
}

/// Generation by states or a cache says the same as the whole text anew for each character.
#[test]
fn a_new_character_costs_one_step_and_is_the_same() {
    for (file, model, arguments, states) in [
        ("char_rnn.nn", "CharRnn", "vocabulary=7, hidden=6", 1),
        ("char_lstm.nn", "CharLstm", "vocabulary=7, hidden=6", 2),
        ("char_gru.nn", "CharGru", "vocabulary=7, hidden=6", 1),
        ("nanogpt.nn", "Gpt", "vocabulary=7, longest=12, layers=2, heads=2, width=8, dropout=0.0", 1),
    ] {
        let text = example(file, model, arguments, states);
        let unit = unit(&text, &[("length", "8"), ("temperature", "0")]);
        let zero = ("temperature", Tensor::from_f64(DType::F32, &[], &[0.0]));
        let prompt = [3.0, 1.0, 4.0];
        let generated = answer(&unit, "text", &[("P", 3)], &[("prompt", tokens(&prompt)), zero], 0);
        assert_eq!((generated.len(), &generated[..3]), (11, &prompt[..]), "{file}");
        let mut anew = prompt.to_vec();
        while anew.len() < 11 {
            let scores = answer(&unit, "whole", &[("P", anew.len() as i64)], &[("text", tokens(&anew))], 0);
            let best = (0..7).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).expect("there are seven");
            anew.push(best as f64);
        }
        assert_eq!(generated, anew, "{file}");
        // A temperature draws: by the seed, and never the same at every place.
        let warm = |seed| {
            let given = [("prompt", tokens(&prompt)), ("temperature", Tensor::from_f64(DType::F32, &[], &[3.0]))];
            answer(&unit, "text", &[("P", 3)], &given, seed)
        };
        assert_eq!(warm(1), warm(1), "{file}");
        assert_ne!(warm(1), warm(2), "{file}");
    }
}

#[test]
fn draws_have_the_probabilities_of_the_scores() {
    let share = |expression: &str, set: &[(&str, &str)]| -> [f64; 4] {
        let text = images(&format!(
            "answer drawn(count: int = 4000, k: int = 2) {{
                require(k > 0, \"k\")
                scores = log(constant_of([0.1, 0.4, 0.2, 0.3], like=p))
                return {expression}
            }}"
        ));
        let found =
            answer(&unit(&text, set), "drawn", &[], &[("x", Tensor::from_f64(DType::F32, &[1, 4], &[0.0; 4]))], 5);
        let share = |class: f64| found.iter().filter(|&&drawn| drawn == class).count() as f64 / found.len() as f64;
        [share(0.0), share(1.0), share(2.0), share(3.0)]
    };
    let close = |found: [f64; 4], expected: [f64; 4]| {
        let off = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(off < 0.03, "{found:?} is not {expected:?}");
    };
    let wide = "broadcast_to(scores, [count, 4])";
    close(share(&format!("draw({wide})"), &[]), [0.1, 0.4, 0.2, 0.3]);
    assert_eq!(share(&format!("draw({wide}, 0.0)"), &[]), [0.0, 1.0, 0.0, 0.0]);
    // At half the temperature probabilities are squared.
    close(share(&format!("draw({wide}, temperature=0.5)"), &[]), [0.01 / 0.3, 0.16 / 0.3, 0.04 / 0.3, 0.09 / 0.3]);
    close(share(&format!("draw({wide} |> top_k(k))"), &[]), [0.0, 4.0 / 7.0, 0.0, 3.0 / 7.0]);
    close(share(&format!("draw({wide} |> top_k(k))"), &[("k", "9")]), [0.1, 0.4, 0.2, 0.3]);
    close(share(&format!("draw({wide} |> top_p(0.8))"), &[]), [0.0, 4.0 / 9.0, 2.0 / 9.0, 3.0 / 9.0]);
    assert_eq!(share(&format!("draw({wide} |> top_p(0.0))"), &[]), [0.0, 1.0, 0.0, 0.0]);
}

#[test]
fn the_largest_of_many_scores_are_found_one_by_one() {
    let text = images(
        "answer kept(count: int = 1030) {
            scores = f32(iota(count) * 7 % 100)[new, :]
            return sum(f32(top_k(scores, 25) > -1.0), axis=-1) + 1000 * min(where(top_k(scores, 25) > -1.0, scores, 500.0), axis=-1)
        }",
    );
    let kept = |count: &str| answer(&unit(&text, &[("count", count)]), "kept", &[], &[], 0)[0];
    // Each of 97 to 99 is there ten times, 98 among 1030 eleven times: the 25 largest end in 97, and all of it stays.
    assert_eq!(kept("1030"), 97_031.0);
    assert_eq!(kept("1000"), 97_030.0);
    // Of few, all are compared with all: each is there four times, and the 25th is 93.
    assert_eq!(kept("400"), 93_028.0);
}

/// The translation of the example by its cache says the same as the whole text anew for each word.
#[test]
fn a_new_word_of_a_translation_costs_one_step_and_is_the_same() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dsl-examples/transformer_translation.nn");
    let mut text = fs::read_to_string(path).expect("the example is there");
    for (from, to) in [("8000", "12"), ("6000", "11"), ("width: int = 128", "width: int = 8"), ("[24]", "[4]")] {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    let anew = "answer anew(length: int = 25) {
        words, _ = scan i in 0..length axis 1 with text = begun(i32(zeros([N, length - 1]))) {
            logits, _, _ = write(text, memory, is_word(german))
            word = argmax(slice(logits, at=i, size=1, axis=1))
            text = update(text, word, at=minimum(i + 1, length - 1), axis=1)
            yield word[:, 0]
        }
        return words
    }
    answer translation(";
    let text = text.replace("i32[25]", "i32[5]").replace("answer translation(", anew);
    let unit = unit(&text, &[]);
    let said = |name: &str| answer(&unit, name, &[], &[("german", tokens(&[5.0, 9.0, 4.0, 0.0]))], 0);
    assert_eq!(said("translation"), said("anew"));
    assert!(said("anew").iter().any(|&word| word != said("anew")[0]), "{:?}", said("anew"));
}

/// A decoder's block with a cache has the layers of the one without, and says the same by the same weights.
#[test]
fn a_cached_decoder_is_the_decoder() {
    let text = images(
        "layer plain = transformer_decoder_block(heads=2)
        layer cached = cached_decoder_block(heads=2)
        answer whole(z: f32[N, 3, 4], memory: f32[N, 2, 6]) = plain(z, memory, memory[:, :, 0] > -0.5)
        answer pieces(z: f32[N, 3, 4], memory: f32[N, 2, 6]) {
            y, _ = scan i in 0..3 axis 1 with cache = zeros([2, N, 2, 3, 2]) {
                y, cache, _ = cached(slice(z, at=i, size=1, axis=1), cache, memory, memory[:, :, 0] > -0.5, i)
                yield y[:, 0]
            }
            return y
        }",
    );
    let unit = unit(&text, &[]);
    let wave = |count: usize, dims: &[usize]| {
        let values: Vec<f64> = (0..count).map(|at| (1.7 * at as f64).sin()).collect();
        let whole = [count];
        Tensor::from_f64(DType::F32, if dims.is_empty() { &whole } else { dims }, &values)
    };
    let said = |name: &str| {
        let graph = sized(&unit, name, &[]);
        let mut given =
            State::from([("z".to_owned(), wave(12, &[1, 3, 4])), ("memory".to_owned(), wave(12, &[1, 2, 6]))]);
        let mut paths = Vec::new();
        for (_, node) in graph.nodes() {
            if let Op::Param { path, ty } = &node.op {
                // One parameter of either has the same numbers.
                let own = path.replace("plain.", "").replace("cached.", "");
                let scale = 0.2 + own.bytes().map(f64::from).sum::<f64>() % 7.0 / 20.0;
                let values = wave(ty.shape.sizes().iter().product(), &[]).to_f64();
                let values: Vec<f64> = values.iter().map(|value| value * scale).collect();
                given.insert(path.clone(), Tensor::from_f64(DType::F32, &ty.shape.sizes(), &values));
                paths.push(own);
            }
        }
        paths.sort();
        let run = run(&graph, &given).unwrap_or_else(|error| panic!("{name}: {error}"));
        (run.output(name).expect("the answer").to_f64(), paths)
    };
    let ((whole, of_plain), (pieces, of_cached)) = (said("whole"), said("pieces"));
    assert!(of_plain.len() > 10 && of_plain == of_cached, "{of_plain:?} is not {of_cached:?}");
    assert!(whole.iter().any(|&value| (value - whole[0]).abs() > 0.1), "{whole:?}");
    assert!(whole.iter().zip(&pieces).all(|(a, b)| (a - b).abs() < 1e-5), "{whole:?} is not {pieces:?}");
}

/// Shares of each head that are 0 for hidden places and 1 together, and the attention of the layer without them.
#[test]
fn attention_tells_where_each_head_looks() {
    let text = images(
        "layer look = cross_attention(heads=2)
        answer looked(z: f32[N, 3, 4], memory: f32[N, 5, 6], known: bool[N, 5]) = look(z, memory, known).1
        answer found(z: f32[N, 3, 4], memory: f32[N, 5, 6], known: bool[N, 5]) = look(z, memory, known).0
        layer plain = multi_head_attention(heads=2)
        answer of_plain(z: f32[N, 3, 4], memory: f32[N, 5, 6], known: bool[N, 5]) = plain(z, memory, known)",
    );
    let unit = unit(&text, &[]);
    let wave = |dims: &[usize]| {
        let values = (0..dims.iter().product()).map(|at: usize| (1.7 * at as f64).sin()).collect::<Vec<_>>();
        Tensor::from_f64(DType::F32, dims, &values)
    };
    let first: State =
        first_values(&unit).iter().map(|(path, value)| (path.clone(), wave(&value.ty().shape.sizes()))).collect();
    let said = |name: &str| {
        let mut given = first.clone();
        given.extend([("z".to_owned(), wave(&[1, 3, 4])), ("memory".to_owned(), wave(&[1, 5, 6]))]);
        given.insert("known".to_owned(), Tensor::from_f64(DType::Bool, &[1, 5], &[1.0, 1.0, 0.0, 1.0, 0.0]));
        run(&sized(&unit, name, &[]), &given).expect("it runs").output(name).expect("the answer").to_f64()
    };
    let looked = said("looked");
    assert_eq!(looked.len(), 2 * 3 * 5);
    for row in looked.chunks(5) {
        assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-6 && row[2] == 0.0 && row[4] == 0.0, "{row:?}");
        assert!((row[0] - row[1]).abs() > 1e-3, "{row:?}");
    }
    assert_eq!(said("found"), said("of_plain"));
}

/// What is given for one answer is no matter for the others.
#[test]
fn a_size_is_bound_for_the_answer_that_is_made() {
    let text = images(
        "answer short(prompt: i32[N, P], length: int = 12) {
            require(P + length <= 16, \"too long\")
            return concat([prompt, i32(zeros([N, length]))], axis=1)
        }
        answer long(prompt: i32[N, P], length: int = 30) = concat([prompt, i32(zeros([N, length]))], axis=1)",
    );
    let bound = |size: i64| {
        let bind = [("P".to_owned(), size)].into();
        let set = [("length".to_owned(), "20".to_owned())].into();
        let checked = check("test.nn", &text, &common::Nothing, &Options { bind, set, ..Options::default() });
        checked.unit.unwrap_or_else(|| panic!("{:#?}", checked.diagnostics))
    };
    for size in [1, 8, 40] {
        let graph = bound(size).answer("Net", Some("long"), 2).unwrap_or_else(|errors| panic!("{errors:#?}"));
        assert_eq!(graph.ty(graph.outputs()[0].value).to_string(), format!("i32[2, {}]", size + 20));
    }
    let errors = bound(8).answer("Net", Some("short"), 2).expect_err("28 places");
    assert_eq!(errors[0].message, "too long");
}

/// A layer of the recipe that an answer with parameters uses alone is initialised, and so in every file of weights.
#[test]
fn what_only_an_answer_with_parameters_uses_has_first_values() {
    let text = images("answer named(z: f32[N, 4]) = other(z)")
        .replace("epochs = 1;", "layer other = dense(units=2)\nepochs = 1;");
    let unit = unit(&text, &[]);
    let values = first_values(&unit);
    let other: Vec<&String> = values.keys().filter(|path| path.contains("other")).collect();
    assert_eq!(other.len(), 2, "{other:?}");
}
