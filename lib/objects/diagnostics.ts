/** What a guest has used, as nova-api shows it (nova/objects/diagnostics.py). */
import { NovaObject } from './nova-object';

export class CpuDiagnostics extends NovaObject {
  static readonly className = 'CpuDiagnostics';
}

export class NicDiagnostics extends NovaObject {
  static readonly className = 'NicDiagnostics';
}

export class DiskDiagnostics extends NovaObject {
  static readonly className = 'DiskDiagnostics';
}

export class MemoryDiagnostics extends NovaObject {
  static readonly className = 'MemoryDiagnostics';
}

export class Diagnostics extends NovaObject {
  static readonly className = 'Diagnostics';
}
