//! Every file of `dsl-examples` at a tiny size: what is changed for that, and what its data may hold.

/// An example with its tiny size.
pub struct Example {
    pub file: &'static str,
    /// Text that stands in it, and what stands there instead.
    pub changes: &'static [(&'static str, &'static str)],
    /// What `--set` would set.
    pub set: &'static [(&'static str, &'static str)],
    /// Of each data block, for each field that is read: numbers are whole and below this, or normal ones for 0.
    pub data: &'static [(&'static str, &'static [i64])],
    /// A recipe for a file that has none.
    pub added: &'static str,
    /// Of a recipe of adversaries: changes that keep all but the first step from training.
    pub alone: &'static [(&'static str, &'static str)],
    /// How many steps it is trained for.
    pub steps: i64,
    pub kind: Kind,
}

/// How a loss depends on parameters.
#[derive(Clone, Copy)]
pub enum Kind {
    /// Derivatives of every order.
    Smooth,
    /// Maxima and rectifiers: its derivative jumps where one goes over to its other side.
    Kinked,
    /// It has a derivative of such a loss in it, so that it jumps itself.
    Jumping,
}

impl Kind {
    /// How far a difference reaches to both sides, which must be short against the distance of the next kink.
    pub fn reach(self) -> f64 {
        match self {
            Self::Smooth => 1e-5,
            Self::Kinked | Self::Jumping => 1e-7,
        }
    }

    /// How far a difference may be from the derivative, relative to what the parameters add to that: what is left of
    /// the third derivative, and the rounding of two losses divided by their distance.
    pub fn tolerance(self) -> f64 {
        match self {
            Self::Smooth => 1e-6,
            Self::Kinked => 5e-6,
            Self::Jumping => 1e-5,
        }
    }
}

const PLAIN: Example =
    Example { file: "", changes: &[], set: &[], data: &[], added: "", alone: &[], steps: 12, kind: Kind::Kinked };

const IMAGENET: &[(&str, &[i64])] = &[("imagenet", &[256, 5])];
const CIFAR: &[(&str, &[i64])] = &[("cifar", &[256, 10])];
const MNIST: &[(&str, &[i64])] = &[("mnist", &[256, 10])];
const SHAKESPEARE: &[(&str, &[i64])] = &[("shakespeare", &[7])];
const SST2: &[(&str, &[i64])] = &[("sst2", &[9, 2])];
const MULTI30K: &[(&str, &[i64])] = &[("multi30k", &[9, 7])];
/// Sounds, and the numbers of digits.
const SPOKEN: &[(&str, &[i64])] = &[("digits", &[0, 10])];
const SIDE_16: (&str, &str) = ("3, 32, 32", "3, 16, 16");
const SIDE_32: (&str, &str) = ("3, 224, 224", "3, 32, 32");

/// All of them, in the order of their names.
pub const EXAMPLES: &[Example] = &[
    Example {
        file: "alexnet.nn",
        changes: &[
            ("train AlexNet on", "train AlexNet(classes=5, width=2, hidden=8) on"),
            ("3, 224, 224", "3, 64, 64"),
        ],
        data: IMAGENET,
        ..PLAIN
    },
    Example {
        file: "alexnet_small.nn",
        changes: &[("train AlexNetSmall on", "train AlexNetSmall(width=2, hidden=8) on"), SIDE_16],
        data: CIFAR,
        ..PLAIN
    },
    Example {
        file: "autoencoder.nn",
        changes: &[("train Autoencoder on", "train Autoencoder(hidden=16, code=4) on")],
        data: MNIST,
        ..PLAIN
    },
    Example {
        file: "char_gru.nn",
        changes: &[("train CharGru on", "train CharGru(vocabulary=7, hidden=4) on")],
        data: SHAKESPEARE,
        kind: Kind::Smooth,
        ..PLAIN
    },
    Example {
        file: "char_lstm.nn",
        changes: &[("train CharLstm on", "train CharLstm(vocabulary=7, hidden=4) on")],
        data: SHAKESPEARE,
        kind: Kind::Smooth,
        ..PLAIN
    },
    Example {
        file: "char_rnn.nn",
        changes: &[("train CharRnn on", "train CharRnn(vocabulary=7, hidden=4) on")],
        data: SHAKESPEARE,
        kind: Kind::Smooth,
        ..PLAIN
    },
    Example {
        file: "conv_autoencoder.nn",
        changes: &[("Encoder()", "Encoder(width=2, code=3)"), ("Decoder()", "Decoder(width=2)")],
        data: MNIST,
        ..PLAIN
    },
    Example {
        file: "dcgan.nn",
        set: &[("width", "2"), ("latent", "3")],
        data: MNIST,
        alone: &[("cosine(2 * rate)", "0.0")],
        ..PLAIN
    },
    Example {
        file: "denoising_autoencoder.nn",
        changes: &[("train Denoiser on", "train Denoiser(hidden=8) on")],
        data: MNIST,
        kind: Kind::Smooth,
        ..PLAIN
    },
    Example { file: "digits.nn", data: &[("digits", &[17, 10])], ..PLAIN },
    Example {
        file: "gan.nn",
        set: &[("width", "8"), ("latent", "3")],
        data: MNIST,
        steps: 60,
        alone: &[("over g using adam(lr=2e-4", "over g using adam(lr=0.0")],
        ..PLAIN
    },
    Example {
        file: "googlenet.nn",
        changes: &[("train GoogLeNet on", "train GoogLeNet(classes=5, divisor=8) on"), SIDE_32],
        data: IMAGENET,
        ..PLAIN
    },
    Example {
        file: "inception_small.nn",
        changes: &[("train InceptionSmall on", "train InceptionSmall(width=2) on"), SIDE_16],
        data: CIFAR,
        ..PLAIN
    },
    Example { file: "linear_regression.nn", data: &[("iris", &[0, 0])], kind: Kind::Smooth, ..PLAIN },
    Example { file: "matrix_factorisation.nn", data: &[("ratings", &[80, 60, 0])], kind: Kind::Smooth, ..PLAIN },
    Example {
        file: "mnist_best.nn",
        changes: &[("train MnistBest on", "train MnistBest(width=2) on")],
        data: MNIST,
        ..PLAIN
    },
    Example {
        file: "mnist_cnn.nn",
        changes: &[("train MnistCnn on", "train MnistCnn(width=2, hidden=8) on")],
        data: MNIST,
        ..PLAIN
    },
    Example {
        file: "mnist_mlp.nn",
        changes: &[("train MnistMlp on", "train MnistMlp(hidden=8) on")],
        data: MNIST,
        ..PLAIN
    },
    Example {
        file: "mobilenet_v2.nn",
        changes: &[("train MobileNetV2 on", "train MobileNetV2(classes=5, divisor=8) on"), SIDE_32],
        data: IMAGENET,
        steps: 60,
        ..PLAIN
    },
    Example {
        file: "nanogpt.nn",
        changes: &[(
            "longest=64, layers=4, heads=4, width=128",
            "vocabulary=7, longest=64, layers=2, heads=2, width=8",
        )],
        data: SHAKESPEARE,
        kind: Kind::Smooth,
        ..PLAIN
    },
    Example {
        file: "resnet18.nn",
        changes: &[("train ResNet18 on", "train ResNet18(classes=5, width=2) on"), SIDE_32],
        data: IMAGENET,
        ..PLAIN
    },
    Example {
        file: "resnet50.nn",
        changes: &[("train ResNet50 on", "train ResNet50(classes=5, width=2) on"), SIDE_32],
        data: IMAGENET,
        ..PLAIN
    },
    Example {
        file: "resnet_cifar.nn",
        changes: &[("train ResNetCifar on", "train ResNetCifar(width=2, blocks=1) on"), SIDE_16],
        data: CIFAR,
        ..PLAIN
    },
    Example { file: "rhyme.nn", data: &[("rhyme", &[30])], kind: Kind::Smooth, ..PLAIN },
    Example {
        file: "seed_cnn.nn",
        changes: &[("train SeedCnn on", "train SeedCnn(width=2, hidden=8) on")],
        data: &[("pictures", &[256, 10])],
        ..PLAIN
    },
    Example {
        file: "sentiment_cnn.nn",
        changes: &[("train SentimentCnn on", "train SentimentCnn(vocabulary=9, width=4, filters=3) on")],
        data: SST2,
        steps: 60,
        ..PLAIN
    },
    Example {
        file: "sentiment_lstm.nn",
        changes: &[("train SentimentLstm on", "train SentimentLstm(vocabulary=9, width=4, hidden=3) on")],
        data: SST2,
        ..PLAIN
    },
    Example {
        file: "sentiment_transformer.nn",
        changes: &[("train SentimentTransformer on", "train SentimentTransformer(vocabulary=9, width=4, heads=2) on")],
        data: SST2,
        kind: Kind::Smooth,
        ..PLAIN
    },
    Example {
        file: "seq2seq_attention.nn",
        changes: &[("Reader()", "Reader(from=9, width=4, hidden=3)"), ("Writer()", "Writer(into=7, width=4)")],
        data: MULTI30K,
        kind: Kind::Smooth,
        steps: 60,
        ..PLAIN
    },
    Example {
        file: "simclr.nn",
        changes: &[SIDE_16, ("warmup=100", "warmup=1")],
        set: &[("width", "2")],
        data: &[("views", &[256, 10]), ("pictures", &[256, 10])],
        ..PLAIN
    },
    Example {
        file: "simple_cnn.nn",
        changes: &[("conv2d(32,", "conv2d(2,")],
        data: MNIST,
        added: "
            data mnist {
                train: (u8[28, 28], u8) = idx(\"images\", \"labels\")
                image: f32[1, 28, 28] = f32(train.0) / 255 |> reshape([1, 28, 28])
                label: i32 = i32(train.1)
            }
            train SimpleCnn on mnist {
                epochs = 1
                batch = 4
                minimize cross_entropy(SimpleCnn(image), label) using adam(lr=1e-3)
            }",
        ..PLAIN
    },
    Example {
        file: "spoken_digits.nn",
        changes: &[("train SpokenDigits on", "train SpokenDigits(width=2) on"), ("6400", "1600"), ("40, 77", "40, 17")],
        data: SPOKEN,
        ..PLAIN
    },
    Example {
        file: "spoken_digits_lstm.nn",
        changes: &[
            ("train SpokenDigitsLstm on", "train SpokenDigitsLstm(hidden=3) on"),
            ("6400", "1600"),
            ("40, 39", "40, 9"),
        ],
        data: SPOKEN,
        ..PLAIN
    },
    Example {
        file: "token_gru.nn",
        changes: &[("CharGru(vocabulary=1024)", "CharGru(vocabulary=7, hidden=4)")],
        data: &[("tokens_of_shakespeare", &[7])],
        kind: Kind::Smooth,
        ..PLAIN
    },
    Example { file: "transfer.nn", data: &[("mnist", &[256, 10]), ("digits", &[17, 10])], ..PLAIN },
    Example {
        file: "transformer_translation.nn",
        changes: &[
            ("Reader()", "Reader(from=9, width=4, heads=2, layers=1)"),
            ("Writer()", "Writer(into=7, heads=2, layers=1)"),
        ],
        data: MULTI30K,
        kind: Kind::Smooth,
        steps: 60,
        ..PLAIN
    },
    Example {
        file: "unet.nn",
        changes: &[("1, 512, 512", "1, 16, 16"), ("train UNet on", "train UNet(side=16, width=2) on")],
        data: &[("cells", &[0, 2])],
        ..PLAIN
    },
    Example { file: "unet_digits.nn", changes: &[("width=16", "width=2")], data: &[("scenes", &[256, 2])], ..PLAIN },
    Example { file: "vae.nn", set: &[("hidden", "8"), ("latent", "3")], data: MNIST, kind: Kind::Smooth, ..PLAIN },
    Example {
        file: "vgg16.nn",
        changes: &[("train Vgg16 on", "train Vgg16(classes=5, width=2, hidden=8) on"), SIDE_32],
        data: IMAGENET,
        ..PLAIN
    },
    Example {
        file: "wgan_gp.nn",
        set: &[("width", "2"), ("latent", "3"), ("critic_steps", "2")],
        data: MNIST,
        alone: &[("over g using adam(lr=1e-4", "over g using adam(lr=0.0")],
        kind: Kind::Jumping,
        ..PLAIN
    },
];
