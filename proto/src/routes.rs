//! One [`Route`] in memory for all activations of a task.

use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::{Equivalent, HashSet};
use taskbroker_domain::activation::Route;

/// How many routes are remembered. When more are seen, it starts anew: a producer that invents names costs memory only
/// while its activations live.
const ROUTES_MAX: usize = 4096;

/// Hands out shared routes by their names.
#[derive(Debug, Default)]
pub(crate) struct Routes(Mutex<HashSet<Arc<Route>>>);

/// The names of a route, borrowed. Hashes as [`Route`] does: the same fields in the same order.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Names<'a> {
    pub(crate) application: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) task_name: &'a str,
}

impl Equivalent<Arc<Route>> for Names<'_> {
    fn equivalent(&self, route: &Arc<Route>) -> bool {
        *self.task_name == *route.task_name
            && *self.namespace == *route.namespace
            && *self.application == *route.application
    }
}

impl Routes {
    /// The route of these names.
    pub(crate) fn get(&self, names: Names<'_>) -> Arc<Route> {
        let mut routes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(route) = routes.get(&names) {
            return Arc::clone(route);
        }
        if routes.len() >= ROUTES_MAX {
            routes.clear();
        }
        let route = Arc::new(Route::new(names.application, names.namespace, names.task_name));
        routes.insert(Arc::clone(&route));
        route
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activations_of_a_task_share_one_route() {
        let routes = Routes::default();
        let names = Names { application: "a", namespace: "n", task_name: "t" };
        let first = routes.get(names);
        assert_eq!(*first, Route::new("a", "n", "t"));
        assert!(Arc::ptr_eq(&first, &routes.get(names)));
        assert_ne!(first, routes.get(Names { task_name: "u", ..names }));
    }

    #[test]
    fn invented_names_do_not_fill_the_memory() {
        let routes = Routes::default();
        for number in 0..3 * ROUTES_MAX {
            let task_name = number.to_string();
            routes.get(Names { application: "a", namespace: "n", task_name: &task_name });
        }
        assert!(routes.0.lock().unwrap_or_else(PoisonError::into_inner).len() <= ROUTES_MAX);
    }
}
