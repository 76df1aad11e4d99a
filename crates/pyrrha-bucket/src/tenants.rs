//! The manifests of a bucket's tenants, shared by whoever commits and whoever reads.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use pyrrha_env::Clock;
use pyrrha_model::{StoreError, TenantId, Timestamp};
use pyrrha_storage::block::BlockId;
use pyrrha_storage::manifest::{Manifest, ManifestState};

use crate::door::{Bucket, PROBES};
use crate::error::BucketError;
use crate::jobs::JobDirectory;
use crate::manifest_store::{BucketManifestStore, has_manifests};
use crate::runtime::BucketRuntime;

/// A directory of Thanos' beside blocks.
const DEBUG: &str = "debug";

/// Readers look so often which tenants there are: as often as servers look for what others committed.
const LISTED_FOR: Duration = Duration::from_secs(30);

/// Tenants of a bucket. Methods that may send requests wait for them, so they must not be called on
/// a thread of a runtime.
#[derive(Debug)]
pub struct BucketTenants {
    bucket: Bucket,
    runtime: Arc<BucketRuntime>,
    clock: Arc<dyn Clock>,
    manifests: RwLock<HashMap<TenantId, Arc<Manifest>>>,
    /// Manifests are opened one at a time: two of one tenant in one process would race.
    opening: Mutex<()>,
    /// Tenants that have a directory, for readers of others.
    listed: Mutex<Option<Listed>>,
}

/// The tenants that a listing found.
#[derive(Debug)]
struct Listed {
    /// When they were looked for last, on the monotonic clock.
    at: Duration,
    tenants: BTreeSet<TenantId>,
}

impl BucketTenants {
    /// No tenant is known yet.
    pub fn new(bucket: Bucket, runtime: Arc<BucketRuntime>, clock: Arc<dyn Clock>) -> Self {
        Self {
            bucket,
            runtime,
            clock,
            manifests: RwLock::default(),
            opening: Mutex::default(),
            listed: Mutex::default(),
        }
    }

    /// The bucket.
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// The manifest of a tenant, opened if this is the first time. A tenant without one has no
    /// blocks.
    pub fn manifest(&self, tenant: &TenantId) -> Result<Arc<Manifest>, StoreError> {
        let known = |tenant| self.manifests.read().get(tenant).cloned();
        if let Some(manifest) = known(tenant) {
            return Ok(manifest);
        }
        let _one = self.opening.lock();
        if let Some(manifest) = known(tenant) {
            return Ok(manifest);
        }
        let store = BucketManifestStore::new(self.bucket.clone(), self.runtime.clone(), tenant);
        let manifest = Arc::new(Manifest::open(Arc::new(store), self.clock.clone())?);
        self.manifests.write().insert(tenant.clone(), manifest.clone());
        Ok(manifest)
    }

    /// The manifest of a tenant for whoever only reads: `None` if the tenant has no directory in the
    /// bucket, and so no blocks. Nothing is kept of such a tenant and no request is sent for it alone,
    /// as whoever asks may name whom they like.
    pub fn to_read(&self, tenant: &TenantId) -> Result<Option<Arc<Manifest>>, StoreError> {
        let known = self.manifests.read().contains_key(tenant);
        if known || self.has_directory(tenant)? { self.manifest(tenant).map(Some) } else { Ok(None) }
    }

    /// Whether a listing of the last [`LISTED_FOR`] found the tenant. While the bucket does not answer, an
    /// older one is as good as the manifests that were read before.
    fn has_directory(&self, tenant: &TenantId) -> Result<bool, StoreError> {
        let mut listed = self.listed.lock();
        let now = self.clock.monotonic();
        let is_fresh = |listed: &Listed| now.saturating_sub(listed.at) < LISTED_FOR;
        if !listed.as_ref().is_some_and(is_fresh) {
            match (self.list(), listed.as_mut()) {
                (Ok(tenants), _) => *listed = Some(Listed { at: now, tenants }),
                (Err(error), Some(old)) => {
                    tracing::warn!(%error, "tenants of the bucket could not be listed, it is tried again");
                    old.at = self.clock.monotonic();
                }
                (Err(error), None) => return Err(error.into()),
            }
        }
        Ok(listed.as_ref().is_some_and(|listed| listed.tenants.contains(tenant)))
    }

    fn list(&self) -> Result<BTreeSet<TenantId>, BucketError> {
        let bucket = self.bucket.clone();
        Ok(self.runtime.wait(async move { tenants_in(&bucket).await })?.into_iter().collect())
    }

    /// The state of a tenant that was opened before.
    pub(crate) fn known(&self, tenant: &TenantId) -> Option<Arc<ManifestState>> {
        self.manifests.read().get(tenant).map(|m| m.current())
    }

    /// The clock of the store, ms: a machine's own may be wrong.
    pub(crate) fn store_now_ms(&self, tenant: &TenantId) -> Result<Timestamp, StoreError> {
        JobDirectory::new(self.bucket.clone(), self.runtime.clone(), tenant).store_now_ms()
    }

    /// All tenants that were opened before.
    pub fn all(&self) -> Vec<TenantId> {
        let mut all: Vec<TenantId> = self.manifests.read().keys().cloned().collect();
        all.sort_unstable();
        all
    }

    /// Opens every tenant that has a directory in the bucket. Those whose manifest cannot be read come
    /// back with the reason; the others are open nonetheless.
    pub fn discover(&self) -> Result<Vec<(TenantId, StoreError)>, StoreError> {
        let (at, tenants) = (self.clock.monotonic(), self.list()?);
        *self.listed.lock() = Some(Listed { at, tenants: tenants.clone() });
        let failed = tenants.into_iter().filter_map(|tenant| {
            let error = self.manifest(&tenant).err()?;
            tracing::error!(%tenant, %error, "manifest of a tenant cannot be read, the others are looked after");
            Some((tenant, error))
        });
        Ok(failed.collect())
    }

    /// Reads what others committed since. Goes on after an error, and gives the first.
    pub fn refresh(&self) -> Result<(), StoreError> {
        let manifests: Vec<Arc<Manifest>> = self.manifests.read().values().cloned().collect();
        let mut result = Ok(());
        for manifest in manifests {
            if let Err(error) = manifest.refresh() {
                result = result.and(Err(error.into()));
            }
        }
        result
    }
}

/// The tenant whose directory this is, by its name, in a bucket of somebody else. A directory with the name of a
/// block is none's: so it is in a bucket without tenants. Nor are those that are for service.
pub(crate) fn tenant_of(name: &str) -> Option<TenantId> {
    let is_block = name.parse::<BlockId>().is_ok();
    if is_block || is_for_service(name) { None } else { TenantId::new(name).ok() }
}

/// Whether Mimir, Thanos or we keep something beside tenants in directories of such names.
fn is_for_service(name: &str) -> bool {
    name.starts_with("__") || name == PROBES || name == DEBUG
}

/// The tenants that have a directory in a bucket of ours. Whoever writes may have any name: what has manifests is
/// a tenant's, whatever it is called.
pub(crate) async fn tenants_in(bucket: &Bucket) -> Result<Vec<TenantId>, BucketError> {
    let names = bucket.list_dirs("").await?;
    let mut found: Vec<TenantId> = names.iter().filter_map(|name| tenant_of(name)).collect();
    for tenant in names.iter().filter(|name| is_for_service(name)).filter_map(|name| TenantId::new(name).ok())
    {
        if has_manifests(bucket, &tenant).await? {
            found.push(tenant);
        }
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use pyrrha_model::TenantId;

    use super::LISTED_FOR;
    use crate::tools::tests::put;
    use crate::worlds::{World, block, id};

    #[test]
    fn nothing_is_kept_of_tenants_that_only_readers_name() {
        let world = World::new();
        world.ship(&[block(&world.disk, 0, 3)]).expect("no fault");
        let tenants =
            crate::BucketTenants::new(world.bucket.clone(), world.runtime.clone(), world.clock.clone());
        let tenant = |name: &str| TenantId::new(name).expect("valid");
        let found = tenants.to_read(&World::tenant()).expect("reads").expect("has blocks");
        assert_eq!(found.current().blocks.len(), 1);
        let before = world.bucket.counters().requests();
        for i in 0..100 {
            assert!(tenants.to_read(&tenant(&format!("t{i}"))).expect("reads").is_none());
        }
        assert_eq!(world.bucket.counters().requests(), before, "the listing is known");
        assert_eq!(tenants.all(), [World::tenant()]);

        put(&world, "late/manifest/x", Vec::new());
        assert!(tenants.to_read(&tenant("late")).expect("reads").is_none(), "it is looked for later");
        world.clock.advance(LISTED_FOR);
        assert!(tenants.to_read(&tenant("late")).expect("reads").is_some());
        assert_eq!(tenants.all().len(), 2);
    }

    #[test]
    fn one_tenant_that_does_not_read_leaves_the_others_and_blocks_are_no_tenants() {
        let world = World::new();
        world.ship(&[block(&world.disk, 0, 3)]).expect("no fault");
        put(&world, "broken/manifest/00000000000000000001.json", b"{".to_vec());
        put(&world, &format!("{}/meta.json", id(7)), b"{}".to_vec());
        put(&world, "zoo/manifest/x", Vec::new());
        for service in ["pyrrha-probe/1", "__markers__/a/b", "__other/a", "debug/metas/1.json"] {
            put(&world, service, Vec::new());
        }
        let tenants =
            crate::BucketTenants::new(world.bucket.clone(), world.runtime.clone(), world.clock.clone());
        let failed = tenants.discover().expect("the bucket answers");
        assert_eq!(failed.iter().map(|(tenant, _)| tenant.as_str()).collect::<Vec<_>>(), ["broken"]);
        let open: Vec<String> = tenants.all().iter().map(ToString::to_string).collect();
        assert_eq!(open, ["anonymous", "zoo"]);
        // Theirs are directories of tenants, whatever those are called.
        put(&world, "__other/manifest/tenant-deletion-mark.json", Vec::new());
        tenants.discover().expect("the bucket answers");
        assert_eq!(tenants.all().len(), 2);
        let shipped = block(&world.disk, 7, 3);
        for name in ["debug", "__ops", "pyrrha-probe"] {
            let tenant = pyrrha_model::TenantId::new(name).expect("a tenant's");
            world.shipper.ship(&[(tenant, vec![shipped.clone()])], &|| false).expect("no fault");
        }
        tenants.discover().expect("the bucket answers");
        let open: Vec<String> = tenants.all().iter().map(ToString::to_string).collect();
        assert_eq!(open, ["__ops", "anonymous", "debug", "pyrrha-probe", "zoo"]);
    }
}
