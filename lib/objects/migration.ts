/** A move of a server between hosts or flavors (nova/objects/migration.py). */
import { integer, nullableText, text } from './fields';
import { NovaObject } from './nova-object';

export class Migration extends NovaObject {
  static readonly className = 'Migration';

  get id(): number {
    return this.read('id', integer);
  }
  get uuid(): string {
    return this.read('uuid', text);
  }
  get instanceUuid(): string {
    return this.read('instance_uuid', text);
  }
  get status(): string | null {
    return this.read('status', nullableText);
  }
  /** migration, resize, live-migration or evacuation. */
  get migrationType(): string {
    return this.read('migration_type', text);
  }
  get sourceCompute(): string | null {
    return this.read('source_compute', nullableText);
  }
  get destCompute(): string | null {
    return this.read('dest_compute', nullableText);
  }
}

/** What of a server changes besides its flavor while it moves, kept with it until the end (nova/objects/migration_context.py). */
export class MigrationContext extends NovaObject {
  static readonly className = 'MigrationContext';
}
