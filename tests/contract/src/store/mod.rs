//! The contract of [`ActivationStore`].
//!
//! An adapter describes itself by [`StoreUnderTest`] and runs every case:
//!
//! ```ignore
//! taskbroker_contract::activation_store_contract!(MySubject::new());
//! ```

mod commits;
mod memories;
mod model;
mod positions;
mod reading;
mod reopening;
mod rows;
mod samples;

use std::sync::Arc;

use async_trait::async_trait;
use taskbroker_domain::ports::store::{ActivationStore, Commit, StoreError};

pub use commits::*;
pub use memories::*;
pub use model::{Contents, Model, contents};
pub use positions::*;
pub use reading::*;
pub use reopening::*;
pub use rows::*;
pub use samples::*;

/// How the suite gets at stores of one kind.
#[async_trait]
pub trait StoreUnderTest: Send + Sync {
    /// Opens the store of this name, making it if there is none.
    async fn open(&self, name: &str) -> Result<Arc<dyn ActivationStore>, StoreError>;

    /// Whether a store that was closed can be opened again by its name, with everything in it.
    fn persists(&self) -> bool {
        true
    }

    /// Whether a second owner is refused while the first has it open.
    fn has_one_owner(&self) -> bool {
        true
    }
}

/// One `#[tokio::test]` per case of the suite. The subject is evaluated anew, inside the test, for each.
#[macro_export]
macro_rules! activation_store_contract {
    ($subject:expr) => {
        $crate::activation_store_contract!(@cases $subject;
            a_new_store_is_empty_and_counts_as_closed,
            an_empty_commit_changes_no_row,
            a_commit_is_atomic_over_all_kinds_of_changes,
            changes_apply_in_the_order_insert_update_delete_clear,
            the_same_commit_again_changes_nothing,
            five_thousand_rows_fit_in_one_commit,
            every_batch_size_is_stored_completely,
            random_commits_agree_with_a_model,
            only_a_closing_commit_leaves_the_store_closed,
            every_state_comes_back_with_all_its_fields,
            every_term_comes_back,
            every_update_comes_back,
            a_change_to_a_missing_row_is_ignored,
            odd_ids_and_routes_come_back,
            an_id_may_stand_in_several_rows,
            clearing_an_origin_leaves_the_rest,
            deleted_rows_take_their_payloads_along,
            rows_come_in_pages_by_ascending_key,
            the_last_key_is_the_largest_present,
            payloads_come_for_the_keys_that_have_rows,
            large_and_empty_payloads_come_back,
            many_routes_are_told_apart,
            reads_beside_commits_see_no_halves,
            usage_grows_with_what_is_stored,
            a_position_is_set_whole,
            positions_of_several_partitions_are_kept_apart,
            dropped_positions_are_gone,
            a_large_settled_set_comes_back,
            early_reports_are_remembered_and_forgotten,
            tombstones_keep_their_order,
            the_identity_is_its_own_and_stays,
            everything_is_there_after_reopening,
            a_second_owner_is_refused_by_name,
        );
    };
    (@cases $subject:expr; $($case:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                $crate::store::$case(&$subject).await;
            }
        )*
    };
}

/// A store with nothing in it.
pub(crate) async fn fresh(subject: &dyn StoreUnderTest) -> Arc<dyn ActivationStore> {
    subject.open("contract").await.expect("a fresh store opens")
}

/// A commit that the store must accept.
pub(crate) async fn accept(store: &dyn ActivationStore, commit: &Commit) {
    store.commit(commit).await.expect("the commit is accepted");
}
