//! The stated accuracy of the math functions: f32 on a sample of all arguments (all of them in the example `ulp`), f64
//! against values computed in 60 digits.

#[path = "common/accuracy.rs"]
mod accuracy;

use nnc_kernel::ir::{Elem, KernelBuilder, Type, interpret};
use nnc_kernel::math;
use nnc_kernel::program::ArgRef;
use nnc_runtime::Pool;
use std::num::NonZeroUsize;
use std::sync::Arc;

#[test]
fn f32_functions_keep_their_limits() {
    let pool = Arc::new(Pool::new(NonZeroUsize::MIN).unwrap());
    for case in accuracy::cases() {
        let (error, x, y) = accuracy::worst(&case, 4099, &pool);
        assert!(error <= case.limit, "{}: {error} ulp at {x:e}, which gives {y:e}", case.name);
    }
}

/// Every argument: some minutes.
#[test]
#[ignore = "takes minutes; the example `ulp` does the same"]
fn f32_functions_keep_their_limits_everywhere() {
    let pool = Arc::new(Pool::new(NonZeroUsize::MIN).unwrap());
    for case in accuracy::cases() {
        let (error, x, y) = accuracy::worst(&case, 1, &pool);
        assert!(error <= case.limit, "{}: {error} ulp at {x:e}, which gives {y:e}", case.name);
    }
}

/// Applies a function in f64, in the interpreter.
fn apply(name: &str, x: f64) -> f64 {
    let mut kernel = KernelBuilder::new(name);
    let (input, output) = (kernel.input("x", Elem::F64), kernel.output("y", Elem::F64));
    kernel.phase(1, |b, at| {
        let x = b.load(input, at, 1);
        let y = match name {
            "exp" => math::exp(b, x),
            "log" => math::log(b, x),
            "tanh" => math::tanh(b, x),
            "sigmoid" => math::sigmoid(b, x),
            "erf" => math::erf(b, x),
            "sin" => math::sin(b, x),
            "cos" => math::cos(b, x),
            other => panic!("no function {other}"),
        };
        b.store(output, at, y);
    });
    let mut buffers = vec![x.to_le_bytes().to_vec(), vec![0; 8]];
    let args = [0, 1].map(|buffer| ArgRef::new(buffer, 0));
    interpret::run_kernel(&kernel.finish(), &args, &mut buffers).unwrap();
    f64::from_le_bytes(buffers[1].as_slice().try_into().unwrap())
}

#[test]
fn f64_functions_are_accurate() {
    for &(name, rows) in F64 {
        for &(x, exact) in rows {
            let found = apply(name, x);
            let unit =
                f64::from_bits(exact.abs().max(f64::MIN_POSITIVE).to_bits() & 0x7ff0_0000_0000_0000) * f64::EPSILON;
            let error = (found - exact).abs() / unit;
            assert!(found == exact || error <= 4.0, "{name}({x:e}) gives {found:e}, not {exact:e}: {error} ulp");
        }
    }
}

#[test]
fn f64_special_values() {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    for (name, x, y) in [
        ("exp", -inf, 0.0),
        ("exp", inf, inf),
        ("exp", 1e300, inf),
        ("log", 0.0, -inf),
        ("log", -0.0, -inf),
        ("log", inf, inf),
        ("log", -1.0, nan),
        ("tanh", inf, 1.0),
        ("tanh", -inf, -1.0),
        ("sigmoid", -inf, 0.0),
        ("sigmoid", inf, 1.0),
        ("erf", -inf, -1.0),
        ("sin", inf, nan),
    ] {
        let found = apply(name, x);
        assert!(found == y || (found.is_nan() && y.is_nan()), "{name}({x}) gives {found}, not {y}");
    }
    for name in ["exp", "log", "tanh", "sigmoid", "erf", "sin", "cos"] {
        assert!(apply(name, nan).is_nan(), "{name}");
    }
}

/// Sine and cosine of large arguments: an error in proportion, and NaN from 2^51 on, as [`math`] states; in f32, too.
#[test]
fn turns_of_large_arguments() {
    let limit = 2f64.powi(51);
    type Function = fn(f64) -> f64;
    let references: [(&str, Function); 2] = [("sin", f64::sin), ("cos", f64::cos)];
    for (name, reference) in references {
        for exponent in 20..51 {
            for x in [1.0, 1.23456789, 1.999999].map(|part| part * 2f64.powi(exponent)) {
                let (found, most) = (apply(name, x), 4.0 * f64::EPSILON * x / 2f64.powi(20));
                assert!((found - reference(x)).abs() <= most, "{name}({x:e}) gives {found:e}, not {:e}", reference(x));
                assert_eq!(apply(name, -x), if name == "sin" { -found } else { found }, "{name}({x:e})");
            }
        }
        assert!(apply(name, limit.next_down()).is_finite(), "{name}");
        for x in [limit, limit.next_up(), 1e20, f64::from(f32::MAX), f64::MAX] {
            assert!(apply(name, x).is_nan() && apply(name, -x).is_nan(), "{name}({x:e})");
        }
    }
    let single = [limit as f32, f32::MAX, f32::MIN, (limit as f32).next_down(), -(limit as f32).next_down()];
    for case in accuracy::cases().iter().filter(|case| ["sin", "cos"].contains(&case.name)) {
        let found = accuracy::apply(case, &single);
        assert!(found[..3].iter().all(|y| y.is_nan()) && found[3..5].iter().all(|y| y.is_finite()), "{found:?}");
    }
}

/// The special cases of IEEE 754, against the C library, and the accuracy on ordinary arguments.
#[test]
fn powers() {
    let values =
        [0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 3.0, -3.0, 2.5, -2.5, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
    let mut kernel = KernelBuilder::new("pow");
    let (input, output) = (kernel.input("xy", Elem::F32), kernel.output("z", Elem::F32));
    let count = values.len() * values.len();
    kernel.phase(count as u64, |b, at| {
        let (x, second) = (b.load(input, at, 1), b.add_index(at, count as i64));
        let y = b.load(input, second, 1);
        assert_eq!(b.type_of(y), Type::scalar(Elem::F32));
        let z = math::pow(b, x, y);
        b.store(output, at, z);
    });
    let pairs: Vec<(f32, f32)> = values.iter().flat_map(|&x| values.map(|y| (x as f32, y as f32))).collect();
    let xs = pairs.iter().map(|pair| pair.0).chain(pairs.iter().map(|pair| pair.1));
    let mut buffers = vec![xs.flat_map(f32::to_le_bytes).collect(), vec![0; 4 * count]];
    let args = [0, 1].map(|buffer| ArgRef::new(buffer, 0));
    interpret::run_kernel(&kernel.finish(), &args, &mut buffers).unwrap();
    for ((x, y), z) in pairs.iter().zip(buffers[1].chunks(4)) {
        let (found, exact) = (f32::from_le_bytes(z.try_into().unwrap()), x.powf(*y));
        let near = (f64::from(found) - f64::from(*x).powf(f64::from(*y))).abs() <= f64::from(exact.abs()) * 1.2e-7;
        let same = found == exact && found.is_sign_negative() == exact.is_sign_negative();
        assert!(same || near || (found.is_nan() && exact.is_nan()), "{x}^{y} gives {found}, not {exact}");
    }
}

/// Function, then argument and correctly rounded result.
type Table = &'static [(&'static str, &'static [(f64, f64)])];

#[rustfmt::skip]
#[allow(clippy::approx_constant, reason = "results that happen to be well known")]
const F64: Table = &[
    ("exp", &[
        (1e-300, 1.0),
        (1e-08, 1.00000001),
        (0.1, 1.1051709180756477),
        (0.3, 1.3498588075760032),
        (0.61, 1.8404313987816374),
        (0.63, 1.8776105792643432),
        (0.9, 2.45960311115695),
        (0.999, 2.715564905318567),
        (1.0, 2.718281828459045),
        (1.1, 3.0041660239464334),
        (1.5, 4.4816890703380645),
        (2.0, 7.38905609893065),
        (2.7, 14.879731724872837),
        (3.3, 27.112638920657883),
        (4.5, 90.01713130052181),
        (5.9, 365.0374678653289),
        (7.0, 1096.6331584284585),
        (20.0, 485165195.4097903),
        (100.0, 2.6881171418161356e+43),
        (700.0, 1.0142320547350045e+304),
        (-0.1, 0.9048374180359595),
        (-0.3, 0.7408182206817179),
        (-0.61, 0.5433508690744998),
        (-0.63, 0.5325918010068972),
        (-0.9, 0.4065696597405991),
        (-0.999, 0.3682475046136629),
        (-1.0, 0.36787944117144233),
        (-1.1, 0.33287108369807955),
        (-1.5, 0.22313016014842982),
        (-2.0, 0.1353352832366127),
        (-2.7, 0.06720551273974976),
        (-3.3, 0.036883167401240015),
        (-4.5, 0.011108996538242306),
        (-5.9, 0.0027394448187683684),
        (-7.0, 0.0009118819655545162),
        (-40.0, 4.248354255291589e-18),
        (-708.0, 3.307553003638408e-308),
        (-720.0, 2.0322308024e-313),
    ]),
    ("log", &[
        (1e-300, -690.7755278982137),
        (1e-08, -18.420680743952367),
        (0.1, -2.3025850929940455),
        (0.3, -1.2039728043259361),
        (0.61, -0.4942963218147801),
        (0.63, -0.4620354595965587),
        (0.9, -0.10536051565782628),
        (0.999, -0.0010005003335835344),
        (1.0, 0.0),
        (1.1, 0.09531017980432493),
        (1.5, 0.4054651081081644),
        (2.0, 0.6931471805599453),
        (2.7, 0.9932517730102834),
        (3.3, 1.1939224684724346),
        (4.5, 1.5040773967762742),
        (5.9, 1.7749523509116738),
        (7.0, 1.9459101490553132),
        (20.0, 2.995732273553991),
        (100.0, 4.605170185988092),
        (700.0, 6.551080335043404),
        (5e-324, -744.4400719213812),
        (1e-310, -713.8013788281542),
        (1e+300, 690.7755278982137),
    ]),
    ("tanh", &[
        (1e-300, 1e-300),
        (1e-08, 1e-08),
        (0.1, 0.09966799462495582),
        (0.3, 0.2913126124515909),
        (0.61, 0.5441270988535675),
        (0.63, 0.5580522155596244),
        (0.9, 0.7162978701990245),
        (0.999, 0.76117386166057),
        (1.0, 0.7615941559557649),
        (1.1, 0.8004990217606297),
        (1.5, 0.9051482536448664),
        (2.0, 0.9640275800758169),
        (2.7, 0.9910074536781176),
        (3.3, 0.9972829600991421),
        (4.5, 0.9997532108480275),
        (5.9, 0.9999849909968058),
        (7.0, 0.9999983369439447),
        (20.0, 1.0),
        (100.0, 1.0),
        (700.0, 1.0),
        (-0.1, -0.09966799462495582),
        (-0.3, -0.2913126124515909),
        (-0.61, -0.5441270988535675),
        (-0.63, -0.5580522155596244),
        (-0.9, -0.7162978701990245),
        (-0.999, -0.76117386166057),
        (-1.0, -0.7615941559557649),
        (-1.1, -0.8004990217606297),
        (-1.5, -0.9051482536448664),
        (-2.0, -0.9640275800758169),
        (-2.7, -0.9910074536781176),
        (-3.3, -0.9972829600991421),
        (-4.5, -0.9997532108480275),
        (-5.9, -0.9999849909968058),
    ]),
    ("sigmoid", &[
        (1e-300, 0.5),
        (1e-08, 0.5000000025),
        (0.1, 0.52497918747894),
        (0.3, 0.574442516811659),
        (0.61, 0.6479408020806502),
        (0.63, 0.6524894621927445),
        (0.9, 0.710949502625004),
        (0.999, 0.7308619212737824),
        (1.0, 0.7310585786300049),
        (1.1, 0.7502601055951176),
        (1.5, 0.8175744761936437),
        (2.0, 0.8807970779778824),
        (2.7, 0.9370266439430035),
        (3.3, 0.9644288107273639),
        (4.5, 0.9890130573694068),
        (5.9, 0.9972680392369889),
        (7.0, 0.9990889488055994),
        (20.0, 0.9999999979388464),
        (100.0, 1.0),
        (700.0, 1.0),
        (-0.1, 0.47502081252106),
        (-0.3, 0.425557483188341),
        (-0.61, 0.35205919791934975),
        (-0.63, 0.34751053780725555),
        (-0.9, 0.28905049737499605),
        (-0.999, 0.2691380787262177),
        (-1.0, 0.2689414213699951),
        (-1.1, 0.24973989440488237),
        (-1.5, 0.18242552380635635),
        (-2.0, 0.11920292202211756),
        (-2.7, 0.06297335605699649),
        (-3.3, 0.03557118927263618),
        (-4.5, 0.01098694263059318),
        (-5.9, 0.002731960763011059),
        (-7.0, 0.0009110511944006454),
        (-40.0, 4.248354255291589e-18),
        (-708.0, 3.307553003638408e-308),
        (-720.0, 2.0322308024e-313),
    ]),
    ("erf", &[
        (1e-300, 1.1283791670955126e-300),
        (1e-08, 1.1283791670955126e-08),
        (0.1, 0.1124629160182849),
        (0.3, 0.3286267594591274),
        (0.61, 0.6116812188758802),
        (0.63, 0.6270464433381957),
        (0.9, 0.7969082124228322),
        (0.999, 0.8422852702064969),
        (1.0, 0.8427007929497149),
        (1.1, 0.8802050695740817),
        (1.5, 0.9661051464753108),
        (2.0, 0.9953222650189527),
        (2.7, 0.9998656672600594),
        (3.3, 0.9999969422902035),
        (4.5, 0.9999999998033839),
        (5.9, 0.9999999999999999),
        (-0.1, -0.1124629160182849),
        (-0.3, -0.3286267594591274),
        (-0.61, -0.6116812188758802),
        (-0.63, -0.6270464433381957),
        (-0.9, -0.7969082124228322),
        (-0.999, -0.8422852702064969),
        (-1.0, -0.8427007929497149),
        (-1.1, -0.8802050695740817),
        (-1.5, -0.9661051464753108),
        (-2.0, -0.9953222650189527),
        (-2.7, -0.9998656672600594),
        (-3.3, -0.9999969422902035),
        (-4.5, -0.9999999998033839),
        (-5.9, -0.9999999999999999),
    ]),
    ("sin", &[
        (1e-300, 1e-300),
        (1e-08, 1e-08),
        (0.1, 0.09983341664682815),
        (0.3, 0.29552020666133955),
        (0.61, 0.5728674601004813),
        (0.63, 0.5891447579422695),
        (0.9, 0.7833269096274834),
        (0.999, 0.8409302618566215),
        (1.0, 0.8414709848078965),
        (1.1, 0.8912073600614354),
        (1.5, 0.9974949866040544),
        (2.0, 0.9092974268256817),
        (2.7, 0.4273798802338298),
        (3.3, -0.1577456941432482),
        (4.5, -0.977530117665097),
        (5.9, -0.373876664830236),
        (7.0, 0.6569865987187891),
        (20.0, 0.9129452507276277),
        (100.0, -0.5063656411097588),
        (700.0, 0.5439705233633756),
        (10000.0, -0.30561438888825215),
        (123456.789, -0.9986640823432246),
        (1000000.0, -0.34999350217129294),
        (-0.1, -0.09983341664682815),
        (-0.3, -0.29552020666133955),
        (-0.61, -0.5728674601004813),
        (-0.63, -0.5891447579422695),
        (-0.9, -0.7833269096274834),
        (-0.999, -0.8409302618566215),
        (-1.0, -0.8414709848078965),
        (-1.1, -0.8912073600614354),
        (-1.5, -0.9974949866040544),
        (-2.0, -0.9092974268256817),
        (-2.7, -0.4273798802338298),
        (-3.3, 0.1577456941432482),
        (-4.5, 0.977530117665097),
        (-5.9, 0.373876664830236),
    ]),
    ("cos", &[
        (1e-300, 1.0),
        (1e-08, 1.0),
        (0.1, 0.9950041652780258),
        (0.3, 0.955336489125606),
        (0.61, 0.8196480178454795),
        (0.63, 0.8080275083121519),
        (0.9, 0.6216099682706644),
        (0.999, 0.5411435065615721),
        (1.0, 0.5403023058681398),
        (1.1, 0.4535961214255773),
        (1.5, 0.0707372016677029),
        (2.0, -0.4161468365471424),
        (2.7, -0.9040721420170612),
        (3.3, -0.9874797699088649),
        (4.5, -0.2107957994307797),
        (5.9, 0.9274784307440359),
        (7.0, 0.7539022543433046),
        (20.0, 0.40808206181339196),
        (100.0, 0.8623188722876839),
        (700.0, -0.8391043258807425),
        (10000.0, -0.9521553682590148),
        (123456.789, 0.05167253271870138),
        (1000000.0, 0.9367521275331447),
        (-0.1, 0.9950041652780258),
        (-0.3, 0.955336489125606),
        (-0.61, 0.8196480178454795),
        (-0.63, 0.8080275083121519),
        (-0.9, 0.6216099682706644),
        (-0.999, 0.5411435065615721),
        (-1.0, 0.5403023058681398),
        (-1.1, 0.4535961214255773),
        (-1.5, 0.0707372016677029),
        (-2.0, -0.4161468365471424),
        (-2.7, -0.9040721420170612),
        (-3.3, -0.9874797699088649),
        (-4.5, -0.2107957994307797),
        (-5.9, 0.9274784307440359),
    ]),
];
