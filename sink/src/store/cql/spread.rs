//! Which rows lie on the same nodes, where not every node holds everything.

use std::sync::Arc;

use scylla::{
    cluster::{ClusterState, metadata::Strategy},
    serialize::row::SerializeRow,
    statement::prepared::PreparedStatement,
};

use super::client::Client;

pub(super) struct Spread {
    state: Arc<ClusterState>,
    keyspace: String,
}

impl Spread {
    /// `None` when every node of every datacenter holds everything: then all rows are near.
    pub(super) fn of(client: &Client) -> Option<Self> {
        let state = client.session.get_cluster_state();
        let keyspace = &client.address.keyspace;
        let copies = match state.get_keyspace(keyspace).map(|keyspace| &keyspace.strategy) {
            Some(Strategy::NetworkTopologyStrategy { datacenter_repfactors }) => {
                datacenter_repfactors.values().sum()
            }
            _ => 0,
        };
        let everywhere = copies >= state.get_nodes_info().len();
        (!everywhere).then(|| Self { state, keyspace: keyspace.clone() })
    }

    /// Stands for the nodes that hold a row. Rows for which it cannot be told are near each other.
    pub(super) fn replicas(&self, statement: &PreparedStatement, row: &impl SerializeRow) -> u64 {
        let token = statement.calculate_token(row).ok().flatten();
        let (Some(token), Some(table)) = (token, statement.get_table_name()) else { return 0 };
        // In any order: it is the set of nodes that matters.
        self.state
            .get_token_endpoints(&self.keyspace, table, token)
            .iter()
            .map(|(node, _)| node.host_id.as_u64_pair())
            .map(|(high, low)| (high ^ low.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15))
            .fold(0, u64::wrapping_add)
    }
}
