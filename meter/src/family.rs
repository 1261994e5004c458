//! Numbers that differ in one label, whose values are known when the program is built.

use core::fmt;
use core::marker::PhantomData;

/// The values of a label. [`labels!`](crate::labels) declares one.
pub trait Label: Copy + 'static {
    /// The label's name.
    const NAME: &'static str;
    /// All of them, in the order of declaration.
    const ALL: &'static [Self];

    /// What stands between the quotes.
    fn name(self) -> &'static str;

    /// Its place in [`Self::ALL`].
    fn index(self) -> usize;
}

/// A number for each value of a label. Its memory is taken when it is made.
pub struct Family<L, M> {
    members: Box<[M]>,
    label: PhantomData<fn(L)>,
}

impl<L: Label, M> Family<L, M> {
    /// One for each.
    pub fn new(make: impl Fn() -> M) -> Self {
        Self {
            members: L::ALL.iter().map(|_| make()).collect(),
            label: PhantomData,
        }
    }

    /// That of a value.
    pub fn of(&self, label: L) -> &M {
        // As many as there are values.
        &self.members[label.index()]
    }

    /// All with their values.
    pub fn iter(&self) -> impl Iterator<Item = (L, &M)> {
        L::ALL.iter().copied().zip(&self.members)
    }
}

impl<L, M: fmt::Debug> fmt::Debug for Family<L, M> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.members.fmt(formatter)
    }
}

/// Declares the values of a label: an enum, each with its name in the text.
#[macro_export]
macro_rules! labels {
    (
        $(#[$about:meta])*
        $vis:vis enum $label:ident, named $label_name:literal;
        $($(#[doc = $doc:literal])+ $value:ident $name:literal,)+
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $vis enum $label {
            $($(#[doc = $doc])+ $value,)+
        }

        impl $crate::Label for $label {
            const NAME: &'static str = $label_name;
            const ALL: &'static [Self] = &[$(Self::$value,)+];

            fn name(self) -> &'static str {
                match self {
                    $(Self::$value => $name,)+
                }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}
