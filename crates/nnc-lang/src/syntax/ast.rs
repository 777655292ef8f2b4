//! The tree that the parser makes: the whole language, whether the elaborator takes it yet or not.
//!
//! Every node has the [`Span`] of its text. What could not be parsed is [`ExprKind::Error`] or a missing statement, and
//! a diagnostic was reported for it: the tree is always whole.

use crate::diagnostic::Span;

/// A name in the source.
#[derive(Clone, PartialEq, Debug)]
pub struct Ident {
    /// Its letters.
    pub text: String,
    /// Where it stands.
    pub span: Span,
}

/// A file.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Module {
    /// Its items in order.
    pub items: Vec<Item>,
    /// The files that layers begin with, wherever these stand, in order.
    pub weight_files: Vec<String>,
}

/// A declaration at the top of a file.
#[derive(Clone, PartialEq, Debug)]
pub struct Item {
    /// The `##` lines before it, without the marks, joined by line ends.
    pub doc: String,
    /// What it declares.
    pub kind: ItemKind,
    /// All of it, without the doc comment.
    pub span: Span,
}

/// What an item declares.
#[derive(Clone, PartialEq, Debug)]
pub enum ItemKind {
    /// `use "blocks.nn"`.
    Use(UseItem),
    /// `fn`, `model`, `optimizer` or `metric`.
    Function(Function),
    /// `data NAME { ... }`.
    Data(Data),
    /// `train NAME on DATA { ... }`.
    Train(Train),
}

/// `use "blocks.nn"`.
#[derive(Clone, PartialEq, Debug)]
pub struct UseItem {
    /// The path as written.
    pub path: String,
    /// Where the path stands.
    pub span: Span,
}

/// Which word a function is declared with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FunctionKind {
    /// Pure.
    Fn,
    /// May own parameters, state and models.
    Model,
    /// Updates a parameter by its gradient.
    Optimizer,
    /// Accumulates over a split.
    Metric,
}

/// `fn`, `model`, `optimizer` or `metric`.
#[derive(Clone, PartialEq, Debug)]
pub struct Function {
    /// The word it is declared with.
    pub kind: FunctionKind,
    /// Its name.
    pub name: Ident,
    /// Its parameters.
    pub params: Vec<Param>,
    /// Its result type; an optimizer has none.
    pub result: Option<Type>,
    /// Its body.
    pub body: Body,
    /// From the word to the result type.
    pub signature: Span,
}

/// `data NAME { ... }`.
#[derive(Clone, PartialEq, Debug)]
pub struct Data {
    /// Its name.
    pub name: Ident,
    /// Its body.
    pub body: Block,
}

/// `train NAME(...) on DATA { ... }`.
#[derive(Clone, PartialEq, Debug)]
pub struct Train {
    /// A model, or a label.
    pub name: Ident,
    /// The model's compile-time arguments.
    pub arguments: Option<Vec<Arg>>,
    /// The data block.
    pub data: Ident,
    /// Its body.
    pub body: Block,
}

/// A body: `= EXPR` or a block.
#[derive(Clone, PartialEq, Debug)]
pub enum Body {
    /// `= EXPR`.
    Expr(Expr),
    /// `{ ... }`.
    Block(Block),
}

/// `{ ... }`.
#[derive(Clone, PartialEq, Debug)]
pub struct Block {
    /// In order.
    pub stmts: Vec<Stmt>,
    /// With its braces.
    pub span: Span,
}

/// A parameter of a function.
#[derive(Clone, PartialEq, Debug)]
pub struct Param {
    /// Its name.
    pub name: Ident,
    /// Its type.
    pub ty: Type,
    /// Its default.
    pub default: Option<Expr>,
    /// All of it.
    pub span: Span,
}

/// A type.
#[derive(Clone, PartialEq, Debug)]
pub struct Type {
    /// What it is.
    pub kind: TypeKind,
    /// Where it stands.
    pub span: Span,
}

/// What a type is.
#[derive(Clone, PartialEq, Debug)]
pub enum TypeKind {
    /// `f32`, `f32[N, C]`, `int`, `str`, `real[...S]`: a name, with dims when brackets follow (they may be empty).
    Named {
        /// `f32`, `real`, `int`, `float`, `bool`, `str`, or what the user wrote.
        name: Ident,
        /// The dims between the brackets.
        dims: Option<Vec<DimExpr>>,
    },
    /// `(A, B)`.
    Tuple(Vec<Type>),
    /// `[int]`.
    List(Box<Type>),
    /// `fn(A, B) -> C`.
    Function(Vec<Type>, Box<Type>),
    /// Not a type; reported.
    Error,
}

/// One dim of a type.
#[derive(Clone, PartialEq, Debug)]
pub enum DimExpr {
    /// An integer expression.
    Expr(Expr),
    /// `...S`.
    Rest(Ident),
}

/// A statement.
#[derive(Clone, PartialEq, Debug)]
pub struct Stmt {
    /// The `##` lines before it.
    pub doc: String,
    /// What it does.
    pub kind: StmtKind,
    /// All of it.
    pub span: Span,
}

/// What a statement does.
#[derive(Clone, PartialEq, Debug)]
pub enum StmtKind {
    /// `x = e`, `a, b = e`, `x: T = e`; also settings such as `epochs = 5`.
    Bind {
        /// What is bound: one name or several.
        targets: Vec<Target>,
        /// The annotation, with one target only.
        ty: Option<Type>,
        /// The value.
        value: Expr,
    },
    /// `param w: T = init`.
    Param(Declaration),
    /// `state s: T = init`.
    State(Declaration),
    /// `s <- e`.
    Update {
        /// The state, or the optimizer's parameter.
        target: Ident,
        /// Its new value.
        value: Expr,
    },
    /// `layer enc = Encoder(dim=64) [from "w.safetensors"] [partial] [cast] [frozen] [follows NAME] [names = {"a": "b"}]`.
    Layer(LayerStmt),
    /// `names = {"theirs": "ours"}` in a model.
    Names(Vec<NameRule>),
    /// `return e`.
    Return(Expr),
    /// `yield e`.
    Yield(Expr),
    /// `if c { ... } else if d { ... } else { ... }`.
    If {
        /// Conditions with their blocks, in order.
        branches: Vec<(Expr, Block)>,
        /// The last `else`.
        otherwise: Option<Block>,
    },
    /// `for i in 0..n { ... }`.
    For {
        /// What is bound at each turn.
        target: Ident,
        /// A range or a list.
        over: Expr,
        /// What is repeated.
        body: Block,
    },
    /// `minimize LOSS [over LAYER] using OPTIMISER [, clip_norm=1.0]`.
    Minimize(Minimize),
    /// `metric NAME = EXPR` in a recipe.
    Metric {
        /// Its name.
        name: Ident,
        /// Its value.
        value: Expr,
    },
    /// `answer NAME = EXPR`, or with parameters and a body.
    Answer {
        /// Its name.
        name: Ident,
        /// Its parameters; `None` without brackets.
        params: Option<Vec<Param>>,
        /// Its result type, when it is written.
        result: Option<Type>,
        /// What it gives.
        body: Body,
    },
    /// `picture NAME = EXPR`.
    Picture {
        /// Its name.
        name: Ident,
        /// Its value.
        value: Expr,
    },
    /// `augment NAME = EXPR` in a data block.
    Augment {
        /// The field it changes.
        name: Ident,
        /// The new value.
        value: Expr,
    },
    /// `train: T = source(...)` and `test: ...` in a data block are [`StmtKind::Bind`]; `step NAME [every K] { ... }`
    /// in a recipe.
    Step {
        /// Its name.
        name: Ident,
        /// In every how many iterations it is done.
        every: Option<Expr>,
        /// Its body.
        body: Block,
    },
    /// An expression alone: `stop_early(...)`.
    Expr(Expr),
    /// Could not be parsed; reported.
    Error,
}

/// What a binding binds.
#[derive(Clone, PartialEq, Debug)]
pub enum Target {
    /// A name.
    Name(Ident),
    /// `_`.
    Ignore(Span),
}

/// `param` or `state`.
#[derive(Clone, PartialEq, Debug)]
pub struct Declaration {
    /// Its name.
    pub name: Ident,
    /// Its type.
    pub ty: Type,
    /// Its first value.
    pub init: Expr,
}

/// `layer NAME = MODEL(...)`.
#[derive(Clone, PartialEq, Debug)]
pub struct LayerStmt {
    /// Its name.
    pub name: Ident,
    /// The model with its compile-time arguments.
    pub value: Expr,
    /// `from "w.safetensors"`.
    pub from: Option<(String, Span)>,
    /// `partial`: what the file lacks keeps its first value.
    pub partial: Option<Span>,
    /// `cast`: floats of another dtype are converted.
    pub cast: Option<Span>,
    /// `frozen`.
    pub frozen: Option<Span>,
    /// `follows NAME`.
    pub follows: Option<Follows>,
    /// `names = {"theirs": "ours"}`.
    pub names: Vec<NameRule>,
}

/// `follows NAME [rate = NUMBER] [every = NUMBER]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Follows {
    /// The layer that is followed.
    pub leader: Ident,
    /// The share of the way that is gone.
    pub rate: Option<Expr>,
    /// In every so many iterations.
    pub every: Option<Expr>,
}

/// What a layer or parameter is called in a file: an entry of `names`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NameRule {
    /// In the file.
    pub theirs: String,
    /// Where that stands.
    pub theirs_span: Span,
    /// In the model.
    pub ours: String,
    /// Where that stands.
    pub ours_span: Span,
}

/// `minimize ...`.
#[derive(Clone, PartialEq, Debug)]
pub struct Minimize {
    /// What is minimised.
    pub loss: Expr,
    /// Each `over PATH using OPTIMISER`; without `over` the path is absent.
    pub parts: Vec<MinimizePart>,
    /// `clip_norm=1.0`, `accumulate=4`.
    pub options: Vec<(Ident, Expr)>,
}

/// `[over PATH] using OPTIMISER`.
#[derive(Clone, PartialEq, Debug)]
pub struct MinimizePart {
    /// A layer or a part of it.
    pub over: Option<Expr>,
    /// The optimiser, called with its settings.
    pub using: Expr,
}

/// An expression.
#[derive(Clone, PartialEq, Debug)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Where it stands.
    pub span: Span,
}

/// What an expression is.
#[derive(Clone, PartialEq, Debug)]
pub enum ExprKind {
    /// `12`.
    Int(i64),
    /// `1e-3`.
    Float(f64),
    /// `"text"`, without quotes and escapes.
    Str(String),
    /// `true`.
    Bool(bool),
    /// `x`.
    Name(String),
    /// `train.0`, `m.head`.
    Field(Box<Expr>, Ident),
    /// `[a, b]`.
    List(Vec<Expr>),
    /// `(a, b)`; one element without a comma is the element itself, in [`ExprKind::Paren`].
    Tuple(Vec<Expr>),
    /// `(a)`.
    Paren(Box<Expr>),
    /// `f(a, k=b)`.
    Call(Box<Expr>, Vec<Arg>),
    /// `x[0, a..b]`.
    Index(Box<Expr>, Vec<IndexItem>),
    /// `-x`, `not x`.
    Unary(UnaryOperator, Box<Expr>),
    /// `a + b`.
    Binary(BinaryOperator, Box<Expr>, Box<Expr>),
    /// `a |> f(b)`.
    Pipe(Box<Expr>, Box<Expr>),
    /// `... |> conv2d(64) as stem`: the whole on the left is named.
    As(Box<Expr>, Ident),
    /// `a..b`.
    Range(Box<Expr>, Box<Expr>),
    /// `...S` in a shape list: `reshape([...S, 4])`.
    Spread(Ident),
    /// `scan ... { ... }`.
    Scan(Box<Scan>),
    /// Could not be parsed; reported.
    Error,
}

/// `scan xt in x axis 1 with h = zeros([N, H]) { ... }`.
#[derive(Clone, PartialEq, Debug)]
pub struct Scan {
    /// What is bound at each step, and what it walks: a tensor or a range. At least one; all have the same steps.
    pub walks: Vec<(Ident, Expr)>,
    /// `axis 1`.
    pub axis: Option<Expr>,
    /// `reverse`.
    pub reverse: bool,
    /// What is carried, with its first value.
    pub carries: Vec<(Ident, Expr)>,
    /// The body.
    pub body: Block,
}

/// An argument of a call.
#[derive(Clone, PartialEq, Debug)]
pub struct Arg {
    /// `name=`.
    pub name: Option<Ident>,
    /// The value.
    pub value: Expr,
}

/// One place between the brackets of an index.
#[derive(Clone, PartialEq, Debug)]
pub enum IndexItem {
    /// An index.
    At(Expr),
    /// `a..b`, `a..`, `..b`.
    Range(Option<Expr>, Option<Expr>, Span),
    /// `:`.
    All(Span),
    /// `new`: a new axis of size 1.
    New(Span),
    /// `...`: as many `:` as are missing.
    Rest(Span),
}

/// Operators of one operand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names are those of mathematics")]
pub enum UnaryOperator {
    Neg,
    Not,
}

/// Operators of two operands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names are those of mathematics")]
pub enum BinaryOperator {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    MatMul,
    Pow,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    And,
    Or,
}

impl BinaryOperator {
    /// As it is written.
    pub fn text(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Rem => "%",
            Self::MatMul => "@",
            Self::Pow => "**",
            Self::Eq => "==",
            Self::Ne => "!=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
            Self::And => "and",
            Self::Or => "or",
        }
    }
}
