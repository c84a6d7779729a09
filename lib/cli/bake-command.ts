/** `prebake bake IMAGE`: makes the µVM of an image, in this process. */
import type { UvmManifest } from '../squirrel';
import { BakeProgressView } from './bake-progress';
import type { Host } from './host';
import { type Output, formatBytes, formatMs } from './output';

/** Bakes unless the cache has the µVM already. */
export async function bake(
  host: Host,
  output: Output,
  nameOrId: string,
  options: { readonly json: boolean; readonly signal: AbortSignal },
): Promise<void> {
  const { signal } = options;
  const bakery = await host.openBakery();
  const view = new BakeProgressView(output.stderr);
  try {
    const image = await bakery.findImage(nameOrId, signal);
    const found = await bakery.cache.find(await bakery.baker.keyOf(image));
    const manifest =
      found ?? (await bakery.baker.bake(image, { signal, onProgress: (progress) => view.update(progress) }));
    view.stop();
    report(output, { image: image.name, manifest, wasThere: found !== undefined, json: options.json });
  } finally {
    view.stop();
    await bakery.close();
  }
}

function report(
  output: Output,
  result: {
    readonly image: string;
    readonly manifest: UvmManifest;
    readonly wasThere: boolean;
    readonly json: boolean;
  },
): void {
  const { manifest, wasThere } = result;
  if (result.json) {
    output.json({ wasThere, ...manifest });
    return;
  }
  output.line(
    wasThere
      ? `${result.image} is baked already: µVM ${manifest.key.slice(0, 12)} of ${manifest.bakedAt}`
      : `Baked ${result.image} in ${formatMs(manifest.bakeMs)}: µVM ${manifest.key.slice(0, 12)}, ` +
          `${manifest.memoryMb} MiB of memory, ${formatBytes(manifest.addedBytes)} added to the cache`,
  );
}
