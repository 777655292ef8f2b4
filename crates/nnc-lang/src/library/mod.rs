//! The standard library: `.nn` source that ships in the binary and that a user can open, copy and change.
//!
//! Its names are seen by every program, behind the program's own. Everything here is written with the primitives of
//! `elaborate/builtins`; nothing of it is known to the compiler by name, but for [`CLIP_SCALE`].

/// Each file of the library: its name in diagnostics, and its text. In the order in which they are read.
pub const FILES: &[(&str, &str)] = &[
    ("library/activations.nn", include_str!("activations.nn")),
    ("library/layers.nn", include_str!("layers.nn")),
    ("library/losses.nn", include_str!("losses.nn")),
    ("library/metrics.nn", include_str!("metrics.nn")),
    ("library/initialisers.nn", include_str!("initialisers.nn")),
    ("library/optimizers.nn", include_str!("optimizers.nn")),
    ("library/schedules.nn", include_str!("schedules.nn")),
    ("library/augmentation.nn", include_str!("augmentation.nn")),
];

/// The function that `minimize ..., clip_norm=` scales gradients with.
pub const CLIP_SCALE: &str = "clip_scale";

/// What `nnc new NAME` writes; `NAME` stands for the name of the experiment, `MODEL` for the name of its model.
pub const TEMPLATE: &str = include_str!("template.nn");
