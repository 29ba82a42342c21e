//! Rules that the operator may change while the broker runs: which tasks are dropped, and which namespaces are demoted, that
//! is, forwarded to another topic.

use std::collections::{BTreeMap, BTreeSet};

use crate::activation::Route;

/// All rules.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// Which tasks are dropped.
    pub drop: Vec<DropRule>,
    /// The namespaces whose tasks are forwarded; of any application.
    pub demoted: BTreeSet<Box<str>>,
}

/// Drops tasks of a name: all, or those whose arguments match.
#[derive(Clone, Debug, PartialEq)]
pub struct DropRule {
    /// The task's name.
    pub task_name: Box<str>,
    /// Which of them; none: all.
    pub selector: Option<Selector>,
}

/// Conditions on a task's arguments; one that holds is enough.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selector {
    /// Positional arguments, by their index from 0.
    pub args: BTreeMap<usize, Argument>,
    /// Keyword arguments, by their name.
    pub kwargs: BTreeMap<Box<str>, Argument>,
}

/// A value that an argument is compared with. An integer never equals a float, nor a number a text.
#[derive(Clone, Debug, PartialEq)]
pub enum Argument {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Integer(i128),
    /// A floating-point number.
    Float(f64),
    /// Text.
    Text(Box<str>),
    /// Several values in order.
    List(Vec<Argument>),
    /// Values by name.
    Map(BTreeMap<Box<str>, Argument>),
}

/// What the rules say of a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// Nothing.
    #[default]
    Keep,
    /// It is dropped.
    Drop,
    /// It is forwarded to another topic.
    Forward,
}

impl Rules {
    /// Whether they say nothing of any task.
    pub fn is_empty(&self) -> bool {
        self.drop.is_empty() && self.demoted.is_empty()
    }

    /// Whether they say anything of any task that depends on its arguments.
    pub fn look_into_arguments(&self) -> bool {
        self.drop.iter().any(|rule| rule.selector.is_some())
    }

    /// What they say of a task. `matches` looks at its arguments, and is only asked where a rule depends on them.
    pub fn fate(&self, route: &Route, mut matches: impl FnMut(&Selector) -> bool) -> Fate {
        let named = self.drop.iter().filter(|rule| rule.task_name == route.task_name);
        let (whole, selecting): (Vec<&DropRule>, Vec<&DropRule>) = named.partition(|rule| rule.selector.is_none());
        if !whole.is_empty() || selecting.iter().filter_map(|rule| rule.selector.as_ref()).any(&mut matches) {
            Fate::Drop
        } else if self.demoted.contains(&route.namespace) {
            Fate::Forward
        } else {
            Fate::Keep
        }
    }

    /// Whether what they say of it depends on its arguments.
    pub fn depends_on_arguments(&self, route: &Route) -> bool {
        let mut named = self.drop.iter().filter(|rule| rule.task_name == route.task_name).peekable();
        named.peek().is_some() && named.all(|rule| rule.selector.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(drop: &[(&str, Option<Selector>)], demoted: &[&str]) -> Rules {
        let drop =
            drop.iter().map(|(name, selector)| DropRule { task_name: (*name).into(), selector: selector.clone() });
        Rules { drop: drop.collect(), demoted: demoted.iter().map(|name| (*name).into()).collect() }
    }

    fn first_is(argument: Argument) -> Option<Selector> {
        Some(Selector { args: BTreeMap::from([(0, argument)]), ..Selector::default() })
    }

    #[test]
    fn a_task_is_dropped_by_its_name_whatever_its_arguments() {
        let rules = rules(&[("slow", first_is(Argument::Null)), ("slow", None)], &[]);
        assert_eq!(rules.fate(&Route::new("app", "ns", "slow"), |_| panic!("not asked")), Fate::Drop);
        assert!(!rules.depends_on_arguments(&Route::new("app", "ns", "slow")));
        assert_eq!(rules.fate(&Route::new("app", "ns", "quick"), |_| true), Fate::Keep);
    }

    #[test]
    fn a_selector_decides_by_the_arguments_and_any_of_several_is_enough() {
        let rules = rules(&[("slow", first_is(Argument::Integer(1))), ("slow", first_is(Argument::Integer(2)))], &[]);
        let route = Route::new("app", "ns", "slow");
        assert!(rules.depends_on_arguments(&route) && rules.look_into_arguments());
        let second = |selector: &Selector| selector.args.get(&0) == Some(&Argument::Integer(2));
        assert_eq!(rules.fate(&route, second), Fate::Drop);
        assert_eq!(rules.fate(&route, |_| false), Fate::Keep);
    }

    #[test]
    fn a_demoted_namespace_is_forwarded_unless_the_task_is_dropped() {
        let rules = rules(&[("slow", None)], &["ns"]);
        assert!(!rules.look_into_arguments());
        assert_eq!(rules.fate(&Route::new("app", "ns", "quick"), |_| false), Fate::Forward);
        assert_eq!(rules.fate(&Route::new("app", "ns", "slow"), |_| false), Fate::Drop);
        assert_eq!(rules.fate(&Route::new("app", "other", "quick"), |_| false), Fate::Keep);
    }

    #[test]
    fn an_integer_is_no_float() {
        assert_ne!(Argument::Integer(1), Argument::Float(1.0));
    }
}
