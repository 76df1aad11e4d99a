//! Memory of queries: what the machine has, and a budget per tenant between the process' and the query's.

use std::collections::HashMap;

use parking_lot::Mutex;
use pyrrha_model::TenantId;
use pyrrha_model::contract::MemoryBudget;

/// Tenants above which budgets that are not in use are forgotten.
const TENANTS_KEPT: usize = 1000;

/// What is assumed where the system does not tell, bytes.
const MEMORY_UNKNOWN: usize = 2 << 30;

/// The budgets of all queries and of each tenant's.
#[derive(Debug)]
pub(crate) struct Budgets {
    process: MemoryBudget,
    tenant_limit: usize,
    /// Tenants with another limit.
    special: HashMap<TenantId, usize>,
    tenants: Mutex<HashMap<TenantId, MemoryBudget>>,
}

impl Budgets {
    /// Budgets in bytes; `special` are tenants with another one.
    pub(crate) fn new(process: usize, tenant: usize, special: HashMap<TenantId, usize>) -> Self {
        Self {
            process: MemoryBudget::new("process", process, None),
            tenant_limit: tenant,
            special,
            tenants: Mutex::default(),
        }
    }

    /// The budget of all queries of a tenant.
    pub(crate) fn of(&self, tenant: &TenantId) -> MemoryBudget {
        let mut tenants = self.tenants.lock();
        if let Some(budget) = tenants.get(tenant) {
            return budget.clone();
        }
        if tenants.len() >= TENANTS_KEPT {
            tenants.retain(|_, budget| budget.used() > 0);
        }
        let limit = self.special.get(tenant).copied().unwrap_or(self.tenant_limit);
        let budget = MemoryBudget::new("tenant", limit, Some(&self.process));
        tenants.insert(tenant.clone(), budget.clone());
        budget
    }

    /// Bytes that all queries hold.
    pub(crate) fn used(&self) -> usize {
        self.process.used()
    }
}

/// Memory this process may use, bytes: the machine's, or its control group's where that is less.
pub(crate) fn memory_of_machine() -> usize {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let group = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .into_iter()
        .filter_map(|path| read(path).trim().parse::<usize>().ok());
    let machine = total_of(&read("/proc/meminfo"));
    group.chain(machine).min().unwrap_or(MEMORY_UNKNOWN)
}

/// `MemTotal` of `/proc/meminfo`, bytes.
fn total_of(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read_from_meminfo() {
        assert_eq!(total_of("MemTotal:       24689764 kB\nMemFree: 1 kB\n"), Some(24_689_764 * 1024));
        assert_eq!(total_of("nonsense"), None);
        assert!(memory_of_machine() > 0);
    }

    #[test]
    fn tenants_share_the_process_and_idle_ones_are_forgotten() {
        let tenant = |name: &str| TenantId::new(name).expect("valid");
        let budgets = Budgets::new(100, 60, HashMap::from([(tenant("small"), 7)]));
        assert!(budgets.of(&tenant("small")).reserve(8).is_err());
        let (a, b) = (budgets.of(&tenant("a")), budgets.of(&tenant("b")));
        a.reserve(60).expect("all of the tenant's");
        let error = budgets.of(&tenant("a")).reserve(1).expect_err("the same budget");
        assert!(error.to_string().starts_with("tenant memory budget exceeded: limit=60 bytes"), "{error}");
        let error = b.reserve(50).expect_err("the process' is used up");
        assert!(error.to_string().starts_with("process memory budget exceeded"), "{error}");
        for i in 0..3 * TENANTS_KEPT {
            budgets.of(&tenant(&format!("t{i}")));
        }
        assert!(budgets.tenants.lock().len() <= TENANTS_KEPT + 1);
        assert!(budgets.of(&tenant("a")).reserve(1).is_err(), "a budget in use stays");
        a.release(60);
        assert_eq!(budgets.used(), 0);
    }
}
